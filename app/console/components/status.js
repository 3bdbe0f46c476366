/** The status of an execution: an icon, a word and a color. */
import { html } from "../lib/html.js";
import { Icon } from "./icon.js";

/** @type {Record<string, { word: string, tone: string, icon: any }>} */
const STATES = {
  pending: { word: "Pending", tone: "idle", icon: "clock" },
  queued: { word: "Queued", tone: "idle", icon: "clock" },
  running: { word: "Running", tone: "run", icon: "ring" },
  waiting: { word: "Waiting for approval", tone: "warn", icon: "pause" },
  completed: { word: "Completed", tone: "ok", icon: "check" },
  failed: { word: "Failed", tone: "bad", icon: "cross" },
  cancelled: { word: "Cancelled", tone: "idle", icon: "stop" },
  approved: { word: "Approved", tone: "ok", icon: "check" },
  rejected: { word: "Rejected", tone: "bad", icon: "cross" },
  "revision-needed": { word: "Revision needed", tone: "warn", icon: "back" },
};

/** @param {string} status */
export const statusWord = (status) => STATES[status]?.word ?? status;

/**
 * @param {{ status: string, pill?: boolean, iconOnly?: boolean }} props
 */
export function Status({ status, pill = false, iconOnly = false }) {
  const state = STATES[status] ?? { word: status, tone: "idle", icon: "clock" };
  const icon = html`<${Icon} name=${state.icon} class=${status === "running" ? "turning" : ""} />`;
  return html`<span class=${`status ${state.tone} ${pill ? "pill" : ""}`}>
    ${icon}<span class=${iconOnly ? "hidden" : ""}>${state.word}</span>
  </span>`;
}

/** The status of a run in a list: a run that waits for a person counts as waiting, not as running. @param {any} run */
export const shownStatus = (run) => (run.waitingFor ? "waiting" : run.status);

/** @param {string} status */
export const isEnded = (status) => status === "completed" || status === "failed" || status === "cancelled";
