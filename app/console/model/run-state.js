/**
 * What the page knows about a run: a fold over its events, and the records of its executions.
 *
 * Every event is folded once, in the order of `seq`. Times are milliseconds since 1970.
 */

/** @typedef {{ kind: "model" | "tool" | "judge" | "review", start: number, end: number, label: string, seq: number, failed?: boolean, open?: boolean }} Segment */
/** @typedef {{ id: string, name: string, start: number, end: number | null, input: any, output: any, failed: boolean, seq: number, resultSeq?: number, editedInput?: any, durationMs?: number, console?: string[] }} ToolUse */

const KIND_OF_PURPOSE = /** @type {Record<string, Segment["kind"]>} */ ({ judge: "judge", review: "review" });
const STARTS_CALL = new Set(["agent-start", "tool-result", "agent-retry"]);
const ENDS_CALL = new Set(["agent-response", "agent-thinking", "tool-call", "agent-complete", "agent-error", "agent-cancelled", "department-start"]);
const END_STATUS = /** @type {Record<string, string>} */ ({ "agent-complete": "completed", "agent-error": "failed", "agent-cancelled": "cancelled" });

/** One execution of the run. */
export class ExecutionState {
  /** @param {string} id */
  constructor(id) {
    this.id = id;
    /** The record of the API, once it was read. @type {any} */
    this.record = null;
    this.version = 0;
    this.agentId = "";
    this.name = "";
    this.department = "";
    this.model = "";
    this.prompt = "";
    this.status = "pending";
    /** @type {number | null} */
    this.startedAt = null;
    /** @type {number | null} */
    this.endedAt = null;
    this.lastAt = 0;
    /** The start of a model call that has not been reported yet. @type {number | null} */
    this.callingSince = null;
    /** @type {Segment[]} */
    this.segments = [];
    /** @type {ToolUse[]} */
    this.tools = [];
    /** @type {number[]} */
    this.scores = [];
    /** The last `quality-check`. @type {any} */
    this.check = null;
    /** @type {any[]} */
    this.reviews = [];
    this.text = "";
    /** @type {any} */
    this.report = null;
    /** @type {any} */
    this.error = null;
    /** @type {any[]} */
    this.calls = [];
    /** The ids of the approvals that it waits for. @type {string[]} */
    this.approvals = [];
    this.isHead = false;
  }

  get score() {
    return this.scores.at(-1) ?? this.record?.qualityScore ?? null;
  }

  get isRunning() {
    return this.status === "running";
  }

  /** Where its lane begins: when it was created, else when it started. */
  get laneStart() {
    return this.record?.createdAt ? Date.parse(this.record.createdAt) : this.startedAt;
  }

  get reviewStatus() {
    return this.reviews.at(-1)?.status ?? this.record?.reviewStatus ?? "pending";
  }

  /** Tokens and cost of the calls that were reported. */
  get spent() {
    return spentBy(this.calls);
  }
}

/**
 * Adds up ledger rows; the cost is unknown where a row with tokens has no price.
 *
 * @param {any[]} rows
 */
export function spentBy(rows) {
  const sum = { input: 0, output: 0, cacheRead: 0, costUsd: /** @type {number | null} */ (0), savedUsd: 0, calls: rows.length, cached: 0 };
  for (const row of rows) {
    sum.input += row.inputTokens;
    sum.output += row.outputTokens;
    sum.cacheRead += row.cacheReadTokens;
    sum.savedUsd += row.savedCostUsd ?? 0;
    sum.cached += row.cached ? 1 : 0;
    if (row.costUsd === null && row.inputTokens + row.outputTokens > 0) sum.costUsd = null;
    else if (sum.costUsd !== null) sum.costUsd += row.costUsd ?? 0;
  }
  return sum;
}

/**
 * Keeps an execution ended that its record says has ended, whatever an older event says: nothing flickers while the
 * stored events are folded.
 *
 * @param {ExecutionState} one
 */
function keepEnd(one) {
  if (!one.record?.completedAt) return;
  one.status = one.record.status;
  one.endedAt = Date.parse(one.record.completedAt);
}

/** A run with all its executions. */
export class RunState {
  /** @param {string} rootId */
  constructor(rootId) {
    this.rootId = rootId;
    /** @type {Map<string, ExecutionState>} */
    this.executions = new Map();
    /** @type {any[]} */
    this.events = [];
    this.lastSeq = 0;
    /** The last event that is older than the records. */
    this.recordedSeq = 0;
    this.version = 0;
    /** Ids in events whose records have not been read. */
    this.hasUnknown = false;
    this.execution(rootId);
  }

  get root() {
    return this.execution(this.rootId);
  }

  /**
   * The state of an execution, made where it is new.
   *
   * @param {string} id
   */
  execution(id) {
    let found = this.executions.get(id);
    if (!found) {
      found = new ExecutionState(id);
      this.executions.set(id, found);
      this.hasUnknown = true;
    }
    return found;
  }

  /**
   * Takes the records of executions, as the API lists them.
   *
   * @param {any[]} records
   */
  takeRecords(records) {
    for (const { lastSeq = 0 } of records) this.recordedSeq = Math.max(this.recordedSeq, lastSeq); // only the root's has it
    for (const record of records) {
      const one = this.execution(record.executionId);
      one.record = { ...one.record, ...record };
      one.agentId ||= record.agent ?? "";
      one.department ||= record.department ?? "";
      one.prompt ||= record.prompt ?? "";
      one.startedAt ??= record.startedAt ? Date.parse(record.startedAt) : null;
      one.status = record.status;
      one.endedAt = record.completedAt ? Date.parse(record.completedAt) : null;
      one.error = record.error ?? one.error;
      one.version += 1;
    }
    this.hasUnknown = [...this.executions.values()].some((one) => !one.record);
    this.version += 1;
  }

  /**
   * Folds an event.
   *
   * @param {any} event
   */
  take(event) {
    if (event.seq <= this.lastSeq) return;
    this.lastSeq = event.seq;
    this.events.push(event);
    this.version += 1;
    const one = this.execution(event.executionId);
    const at = Date.parse(event.timestamp);
    one.version += 1;
    one.lastAt = at;
    this.#takeCalls(event);
    this.#takeCallState(one, event, at);
    FOLDS[event.type]?.(one, event, at);
    if (END_STATUS[event.type]) {
      one.status = END_STATUS[event.type];
      one.endedAt = at;
      one.approvals = [];
    }
    if (event.seq <= this.recordedSeq) keepEnd(one);
  }

  /** @param {any} event */
  #takeCalls(event) {
    for (const row of event.calls ?? []) {
      const one = this.execution(row.executionId);
      one.calls.push(row);
      one.version += 1;
      const start = Date.parse(row.startedAt);
      const kind = KIND_OF_PURPOSE[row.purpose] ?? "model";
      const label = `${row.purpose} · ${row.model}${row.cached ? " · cached" : ""}${row.outcome === "error" ? ` · ${row.errorCode}` : ""}`;
      one.segments.push({ kind, start, end: start + row.durationMs, label, seq: event.seq, failed: row.outcome === "error" });
    }
  }

  /**
   * @param {ExecutionState} one
   * @param {any} event
   * @param {number} at
   */
  #takeCallState(one, event, at) {
    if (STARTS_CALL.has(event.type)) one.callingSince = at;
    else if (ENDS_CALL.has(event.type)) one.callingSince = null;
  }

  /** The executions below each one, in the order in which they were created. */
  children() {
    /** @type {Map<string, ExecutionState[]>} */
    const below = new Map();
    for (const one of this.executions.values()) {
      if (one.id === this.rootId) continue;
      const parent = one.record?.parentExecutionId ?? this.rootId;
      const siblings = below.get(parent);
      if (siblings) siblings.push(one);
      else below.set(parent, [one]);
    }
    for (const siblings of below.values()) siblings.sort((a, b) => (a.laneStart ?? Infinity) - (b.laneStart ?? Infinity));
    return below;
  }

  /** When the run was accepted, in milliseconds. */
  get start() {
    return this.root.laneStart ?? (this.events.length ? Date.parse(this.events[0].timestamp) : Date.now());
  }

  /** When the last execution ended, `null` while the run goes on. */
  get end() {
    if (this.root.isRunning || this.root.status === "pending") return null;
    return Math.max(this.root.endedAt ?? 0, ...[...this.executions.values()].map((one) => one.endedAt ?? 0));
  }

  /** The approvals that the tree waits for. */
  get approvals() {
    return [...this.executions.values()].flatMap((one) => one.approvals);
  }

  /** Tokens and cost of the tree so far. */
  get spent() {
    return spentBy([...this.executions.values()].flatMap((one) => one.calls));
  }
}

/** @type {Record<string, (one: ExecutionState, event: any, at: number) => void>} */
const FOLDS = {
  "agent-start": (one, event, at) => {
    one.startedAt ??= at;
    one.status = "running";
    one.endedAt = null;
    one.agentId = event.agentId ?? one.agentId;
    one.name = event.name ?? one.name;
    one.department = event.department ?? one.department;
    one.model = event.model ?? one.model;
    one.prompt = event.prompt ?? one.prompt;
  },
  "tool-call": (one, event, at) => {
    const use = { id: event.toolCallId, name: event.toolName, start: at, end: null, input: event.input, output: undefined, failed: false, seq: event.seq };
    one.tools.push(use);
  },
  "approval-requested": (one, event) => {
    one.approvals = [...one.approvals, event.approvalId];
    one.callingSince = null;
  },
  "approval-decided": (one, event, at) => {
    one.approvals = one.approvals.filter((id) => id !== event.approvalId);
    const use = one.tools.find((tool) => tool.id === event.toolCallId && tool.end === null);
    if (use) use.start = at;
  },
  "tool-result": (one, event, at) => {
    const use = one.tools.find((tool) => tool.id === event.toolCallId && tool.end === null);
    if (!use) return;
    use.end = at;
    use.output = event.output;
    use.resultSeq = event.seq;
    use.editedInput = event.editedInput;
    use.durationMs = event.durationMs;
    use.console = event.console;
    use.failed = Boolean(event.output && typeof event.output === "object" && event.output.error?.code);
    if (one.tools.some((tool) => tool.end === null)) one.callingSince = null;
  },
  "agent-response": (one, event) => {
    one.text = event.content;
  },
  "quality-check": (one, event) => {
    one.check = event;
    if (event.score !== null) one.scores.push(event.score * 100);
  },
  "review-status": (one, event, at) => {
    one.reviews.push(event);
    if (event.status === "revision-needed" && (event.reopens || one.status === "running")) {
      one.status = "running";
      one.endedAt = null;
      one.callingSince = at;
    }
  },
  "department-start": (one, event) => {
    one.isHead = true;
    one.department = event.departmentSlug;
  },
  "department-complete": (one, event) => {
    one.report = event.report;
  },
  "agent-complete": (one, event) => {
    one.text = event.output?.text ?? one.text;
  },
  "agent-error": (one, event) => {
    one.error = event.error;
  },
};

/** The groups by which events are filtered. */
export const EVENT_GROUPS = /** @type {Record<string, (type: string) => boolean>} */ ({
  All: () => true,
  Model: (type) => /^agent-(thinking|response|retry)$/.test(type),
  Tools: (type) => type.startsWith("tool-"),
  Quality: (type) => type === "quality-check",
  Decisions: (type) => type === "review-status" || type.startsWith("approval-"),
  Problems: (type) => /^(agent-error|agent-retry|agent-cancelled|budget-alert)$/.test(type),
});
