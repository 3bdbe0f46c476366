/** One line about an event. */
import { dollars, firstLine } from "../lib/format.js";

const MAX_JSON = 160;

/** @param {any} value */
function brief(value) {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "");
  return text.length > MAX_JSON ? `${text.slice(0, MAX_JSON)}…` : text;
}

/** @type {Record<string, (event: any) => string>} */
const TEXTS = {
  "agent-start": (event) => `Starts${event.model ? ` with ${event.model}` : ""}`,
  "agent-thinking": (event) => (event.format ? `Data ${event.format.valid ? "matches" : "does not match"} the schema` : firstLine(event.message) || "Plans"),
  "tool-call": (event) => `${event.toolName}(${brief(event.input)})`,
  "tool-result": (event) => `${event.toolName} → ${brief(event.output)}`,
  "approval-requested": (event) => `${event.toolName}(${brief(event.input)}) is waiting for approval`,
  "approval-decided": (event) => [`${event.toolName}: ${event.status}`, event.decidedBy && `by ${event.decidedBy.name}`, event.message && firstLine(event.message)].filter(Boolean).join(" · "),
  "agent-response": (event) => firstLine(event.content) + (event.cached ? " · cached" : ""),
  "agent-complete": (event) => firstLine(event.output?.text) || `Completed: ${event.stopReason}`,
  "agent-error": (event) => `${event.error?.code}: ${event.error?.message}`,
  "agent-cancelled": () => "Cancelled",
  "agent-retry": (event) => `${event.reason} (attempt ${event.attempt})`,
  "quality-check": (event) =>
    event.score === null ? "Not scored" : `${event.gate?.passed ? "Passed" : "Did not pass"} the ${event.gate?.name ?? ""} gate with ${Math.round(event.score * 100)}`,
  "review-status": (event) => [event.status, event.notes && firstLine(event.notes)].filter(Boolean).join(": "),
  "department-start": (event) => `Department ${event.departmentSlug} starts`,
  "department-complete": (event) => firstLine(event.report?.summary ?? event.report?.text),
  "orchestrator-progress": (event) => `${event.message} (${event.done} of ${event.total})`,
  "budget-alert": (event) => `${event.scope}: ${Math.round(event.ratio * 100)}% of the budget is used, ${dollars(event.usedCostUsd)}`,
};

/** @param {any} event */
export const eventText = (event) => TEXTS[event.type]?.(event) ?? "";

/** Whether the line is code. @param {any} event */
export const isCode = (event) => event.type === "tool-call" || event.type === "tool-result";
