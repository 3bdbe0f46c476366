/**
 * The difference of two texts, by lines and within changed lines by words.
 *
 * Myers' algorithm with a bound: where texts differ more than it allows, the part between their common beginning and
 * end counts as replaced, so that the time stays proportional to the length.
 */

/** @typedef {{ text: string, isChanged: boolean }} Part */
/** @typedef {{ number: number, parts: Part[] }} Side */
/** @typedef {{ kind: "same" | "changed" | "removed" | "added", left: Side | null, right: Side | null }} Row */
/** @typedef {{ kind: "same" | "removed" | "added", left: number, right: number }} Step */

const MAX_LINE_EDITS = 500;
const MAX_WORD_EDITS = 200;
const MAX_WORDS_OF_LINE = 2000;
const WORDS = /\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu;

/**
 * The rows of two texts beside each other.
 *
 * @param {string} left
 * @param {string} right
 * @returns {Row[]}
 */
export function diffRows(left, right) {
  const before = linesOf(left);
  const after = linesOf(right);
  /** @type {Row[]} */
  const rows = [];
  /** @type {number[]} */
  let removed = [];
  /** @type {number[]} */
  let added = [];
  const flush = () => {
    for (let place = 0; place < Math.max(removed.length, added.length); place += 1) {
      rows.push(changedRow(before, after, removed[place], added[place]));
    }
    removed = [];
    added = [];
  };
  for (const step of steps(before, after, MAX_LINE_EDITS)) {
    if (step.kind === "removed") removed.push(step.left);
    else if (step.kind === "added") added.push(step.right);
    else {
      flush();
      rows.push({ kind: "same", left: plainSide(before, step.left), right: plainSide(after, step.right) });
    }
  }
  flush();
  return rows;
}

/** @param {string} text */
const linesOf = (text) => (text === "" ? [] : text.replaceAll("\r\n", "\n").split("\n"));

/** @param {string[]} lines @param {number} index @returns {Side} */
const plainSide = (lines, index) => ({ number: index + 1, parts: [{ text: lines[index], isChanged: false }] });

/**
 * @param {string[]} before
 * @param {string[]} after
 * @param {number | undefined} removed
 * @param {number | undefined} added
 * @returns {Row}
 */
function changedRow(before, after, removed, added) {
  if (removed === undefined) return { kind: "added", left: null, right: plainSide(after, /** @type {number} */ (added)) };
  if (added === undefined) return { kind: "removed", left: plainSide(before, removed), right: null };
  const [left, right] = wordParts(before[removed], after[added]);
  return { kind: "changed", left: { number: removed + 1, parts: left }, right: { number: added + 1, parts: right } };
}

/**
 * The parts of two lines, with what differs marked.
 *
 * @param {string} left
 * @param {string} right
 * @returns {[Part[], Part[]]}
 */
function wordParts(left, right) {
  const before = left.match(WORDS) ?? [];
  const after = right.match(WORDS) ?? [];
  if (before.length + after.length > MAX_WORDS_OF_LINE) return [[{ text: left, isChanged: true }], [{ text: right, isChanged: true }]];
  /** @type {[Part[], Part[]]} */
  const sides = [[], []];
  const add = (/** @type {Part[]} */ parts, /** @type {string} */ text, /** @type {boolean} */ isChanged) => {
    const last = parts.at(-1);
    if (last?.isChanged === isChanged) last.text += text;
    else parts.push({ text, isChanged });
  };
  for (const step of steps(before, after, MAX_WORD_EDITS)) {
    if (step.kind !== "added") add(sides[0], before[step.left], step.kind === "removed");
    if (step.kind !== "removed") add(sides[1], after[step.right], step.kind === "added");
  }
  return sides;
}

/**
 * The steps from one list to the other, in order.
 *
 * @param {string[]} before
 * @param {string[]} after
 * @param {number} maxEdits
 * @returns {Step[]}
 */
function steps(before, after, maxEdits) {
  let start = 0;
  while (start < before.length && start < after.length && before[start] === after[start]) start += 1;
  let end = 0;
  const room = Math.min(before.length, after.length) - start;
  while (end < room && before[before.length - 1 - end] === after[after.length - 1 - end]) end += 1;
  const middle = middleSteps(before.slice(start, before.length - end), after.slice(start, after.length - end), maxEdits);
  /** @type {Step[]} */
  const all = [];
  for (let index = 0; index < start; index += 1) all.push({ kind: "same", left: index, right: index });
  for (const step of middle) all.push({ kind: step.kind, left: step.left + start, right: step.right + start });
  for (let index = end; index > 0; index -= 1) all.push({ kind: "same", left: before.length - index, right: after.length - index });
  return all;
}

/**
 * @param {string[]} before
 * @param {string[]} after
 * @param {number} maxEdits
 * @returns {Step[]}
 */
function middleSteps(before, after, maxEdits) {
  const trace = shortestEdits(before, after, maxEdits);
  if (trace === null) {
    return [
      ...before.map((_, left) => /** @type {Step} */ ({ kind: "removed", left, right: 0 })),
      ...after.map((_, right) => /** @type {Step} */ ({ kind: "added", left: before.length, right })),
    ];
  }
  /** @type {Step[]} */
  const back = [];
  let left = before.length;
  let right = after.length;
  for (let edits = trace.length - 1; edits >= 0; edits -= 1) {
    const reached = trace[edits];
    const diagonal = left - right;
    const isInsertion = diagonal === -edits || (diagonal !== edits && at(reached, diagonal - 1) < at(reached, diagonal + 1));
    const fromDiagonal = isInsertion ? diagonal + 1 : diagonal - 1;
    const fromLeft = edits === 0 ? 0 : at(reached, fromDiagonal);
    const fromRight = edits === 0 ? 0 : fromLeft - fromDiagonal;
    while (left > fromLeft && right > fromRight) back.push({ kind: "same", left: --left, right: --right });
    if (edits === 0) break;
    if (isInsertion) back.push({ kind: "added", left, right: --right });
    else back.push({ kind: "removed", left: --left, right });
  }
  return back.reverse();
}

/** @param {Map<number, number>} reached @param {number} diagonal */
const at = (reached, diagonal) => reached.get(diagonal) ?? -1;

/**
 * How far each diagonal is reached before each edit; `null` if more edits than allowed are needed.
 *
 * @param {string[]} before
 * @param {string[]} after
 * @param {number} maxEdits
 * @returns {Map<number, number>[] | null}
 */
function shortestEdits(before, after, maxEdits) {
  const reached = new Map([[1, 0]]);
  const trace = [];
  for (let edits = 0; edits <= Math.min(maxEdits, before.length + after.length); edits += 1) {
    trace.push(new Map(reached));
    for (let diagonal = -edits; diagonal <= edits; diagonal += 2) {
      const isInsertion = diagonal === -edits || (diagonal !== edits && at(reached, diagonal - 1) < at(reached, diagonal + 1));
      let left = isInsertion ? at(reached, diagonal + 1) : at(reached, diagonal - 1) + 1;
      while (left < before.length && left - diagonal < after.length && before[left] === after[left - diagonal]) left += 1;
      reached.set(diagonal, left);
      if (left >= before.length && left - diagonal >= after.length) return trace;
    }
  }
  return null;
}

/** @typedef {{ rows: Row[] } | { hidden: Row[] }} Stretch */

/**
 * Rows with long equal stretches apart, which are shown on request.
 *
 * @param {Row[]} rows
 * @param {number} [context] equal rows that stay around each change
 * @returns {Stretch[]}
 */
export function stretchesOf(rows, context = 3) {
  /** @type {Stretch[]} */
  const found = [];
  let start = 0;
  while (start < rows.length) {
    const isSame = rows[start].kind === "same";
    let end = start;
    while (end < rows.length && (rows[end].kind === "same") === isSame) end += 1;
    const head = start === 0 ? 0 : context;
    const tail = end === rows.length ? 0 : context;
    if (isSame && end - start > head + tail + 2) {
      if (head) found.push({ rows: rows.slice(start, start + head) });
      found.push({ hidden: rows.slice(start + head, end - tail) });
      if (tail) found.push({ rows: rows.slice(end - tail, end) });
    } else found.push({ rows: rows.slice(start, end) });
    start = end;
  }
  return found;
}

/** How many lines were removed and added. @param {Row[]} rows */
export function changesOf(rows) {
  const counts = { removed: 0, added: 0 };
  for (const row of rows) {
    if (row.kind !== "same" && row.left) counts.removed += 1;
    if (row.kind !== "same" && row.right) counts.added += 1;
  }
  return counts;
}
