/** JavaScript and JSON as the code editor needs them: tokens, matching brackets, indentation, the line of an error. */

/** @typedef {"comment" | "string" | "number" | "keyword" | "bracket" | "plain"} TokenKind */
/** @typedef {{ kind: TokenKind, text: string, start: number }} Token */

const KEYWORDS = new Set(
  ("async await break case catch class const continue default delete do else export extends false finally for function if import in instanceof let new null of return static " +
    "super switch this throw true try typeof undefined var void while yield").split(" "),
);
const TOKEN = /\/\/[^\n]*|\/\*[^]*?(?:\*\/|$)|"(?:\\[^]|[^"\\\n])*"?|'(?:\\[^]|[^'\\\n])*'?|`(?:\\[^]|[^`\\])*`?|\b\d[\w.]*|[A-Za-z_$][\w$]*|[()[\]{}]|\s+|[^]/g;
const REGEX = /^\/(?![/*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\[\n])+\/[a-z]*/;
const BEFORE_REGEX = /^[([{,;=:!&|?+\-*%<>~^]$/;
const CLOSES = /** @type {Record<string, string>} */ ({ ")": "(", "]": "[", "}": "{" });
export const INDENT = "  ";

/**
 * The tokens of a code, which together are the code.
 *
 * @param {string} code
 * @returns {Token[]}
 */
export function tokensOf(code) {
  /** @type {Token[]} */
  const tokens = [];
  let before = "(";
  TOKEN.lastIndex = 0;
  for (let match = TOKEN.exec(code); match; match = TOKEN.exec(code)) {
    let [text] = match;
    const start = match.index;
    let kind = kindOf(text);
    if (text === "/" && (BEFORE_REGEX.test(before) || before === "return")) {
      const regex = REGEX.exec(code.slice(start, start + 1000));
      if (regex) {
        [text] = regex;
        kind = "string";
        TOKEN.lastIndex = start + text.length;
      }
    }
    if (text.trim() && kind !== "comment") before = text;
    const last = tokens.at(-1);
    if (kind === "plain" && last?.kind === "plain") last.text += text;
    else tokens.push({ kind, text, start });
  }
  return tokens;
}

/** @param {string} text @returns {TokenKind} */
function kindOf(text) {
  if (text.startsWith("//") || text.startsWith("/*")) return "comment";
  if (/^["'`]/.test(text)) return "string";
  if (/^\d/.test(text)) return "number";
  if (KEYWORDS.has(text)) return "keyword";
  return /^[()[\]{}]$/.test(text) ? "bracket" : "plain";
}

/**
 * The places of the bracket beside the caret and of the one that belongs to it; one place if none does.
 *
 * @param {Token[]} tokens
 * @param {number} caret
 * @returns {number[]}
 */
export function bracketsAt(tokens, caret) {
  const brackets = tokens.filter((token) => token.kind === "bracket");
  const here = brackets.find((token) => token.start === caret - 1) ?? brackets.find((token) => token.start === caret);
  if (!here) return [];
  /** @type {Token[]} */
  const open = [];
  for (const token of brackets) {
    const opening = CLOSES[token.text];
    if (!opening) {
      open.push(token);
      continue;
    }
    const partner = open.at(-1)?.text === opening ? open.pop() : undefined;
    if (token === here || partner === here) return partner ? [partner.start, token.start] : [here.start];
  }
  return [here.start];
}

/**
 * The white space with which the line after a place begins: deeper after an opening bracket.
 *
 * @param {string} code
 * @param {number} place
 */
export function indentAfter(code, place) {
  const line = code.slice(code.lastIndexOf("\n", place - 1) + 1, place);
  const own = /^[ \t]*/.exec(line)?.[0] ?? "";
  return /[([{]\s*$/.test(line) ? own + INDENT : own;
}

/**
 * The change that indents the selected lines, or takes the indentation back.
 *
 * @param {string} code
 * @param {number} start
 * @param {number} end
 * @param {boolean} isBack
 * @returns {{ from: number, to: number, text: string }}
 */
export function indentLines(code, start, end, isBack) {
  const from = code.lastIndexOf("\n", start - 1) + 1;
  const until = code.indexOf("\n", Math.max(start, end - 1));
  const to = until < 0 ? code.length : until;
  const lines = code.slice(from, to).split("\n");
  const changed = lines.map((line) => (isBack ? line.replace(/^(?: {1,2}|\t)/, "") : line && INDENT + line));
  return { from, to, text: changed.join("\n") };
}

/**
 * The line that a message of the API names: "line 3", "3:14".
 *
 * @param {string | undefined} message
 * @returns {number | null}
 */
export function lineOfMessage(message) {
  const found = /\bline (\d+)|(?:^|[\s(])(\d+):\d+\b/i.exec(message ?? "");
  return found ? Number(found[1] ?? found[2]) : null;
}

/**
 * What is wrong with a text that should be JSON, and where.
 *
 * @param {string} text
 * @returns {{ line: number, message: string } | null}
 */
export function jsonProblem(text) {
  if (!text.trim()) return null;
  try {
    JSON.parse(text);
    return null;
  } catch {
    const place = placeOfJsonProblem(text);
    const found = text[place];
    return { line: text.slice(0, place).split("\n").length, message: found === undefined ? "the text ends too early" : `unexpected ${JSON.stringify(found)}` };
  }
}

const JSON_TOKEN = /\s*(?:([[\]{},:])|"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[\da-fA-F]{4}))*"|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null)/y;

/**
 * Where a text stops being JSON; browsers do not all say it.
 *
 * @param {string} text
 */
function placeOfJsonProblem(text) {
  /** The closing brackets that are due. @type {string[]} */
  const due = [];
  let expects = "value";
  JSON_TOKEN.lastIndex = 0;
  for (;;) {
    const start = JSON_TOKEN.lastIndex + (/^\s*/.exec(text.slice(JSON_TOKEN.lastIndex))?.[0].length ?? 0);
    const match = JSON_TOKEN.exec(text);
    if (!match) return start;
    const mark = match[1] ?? (match[0].trimStart().startsWith('"') ? "string" : "literal");
    const next = afterToken(expects, mark, due);
    if (next === null) return start;
    expects = next;
  }
}

/**
 * What has to follow a token; `null` if the token is not allowed.
 *
 * @param {string} expects `value`, `first` (or the end of a list), `key`, `first-key` (or the end of an object), `colon` or `more`
 * @param {string} mark
 * @param {string[]} due
 * @returns {string | null}
 */
function afterToken(expects, mark, due) {
  if (mark === due.at(-1) && (expects === "more" || expects.startsWith("first"))) {
    due.pop();
    return "more";
  }
  if (expects === "colon") return mark === ":" ? "value" : null;
  if (expects === "more") return mark === "," && due.length > 0 ? (due.at(-1) === "}" ? "key" : "value") : null;
  if (expects.endsWith("key")) return mark === "string" ? "colon" : null;
  if (mark === "string" || mark === "literal") return "more";
  if (mark !== "[" && mark !== "{") return null;
  due.push(mark === "[" ? "]" : "}");
  return mark === "[" ? "first" : "first-key";
}
