/**
 * The three kinds of the catalog: where they are, and the fields of their forms, named like the API's.
 *
 * A field's `kind` is that of `Field`, or `check`, `lines` (a list of texts, one a line), `json`. An `optional` text
 * is `null` where it is empty.
 */

/** @typedef {{ name: string, kind?: string, hint?: string, optional?: boolean, rows?: number, from?: "departments" | "models", min?: number, max?: number, step?: string, section?: string }} FieldSpec */
/** @typedef {{ id: string, title: string, one: string, path: string, key: string, name: string, fields: FieldSpec[] }} Kind */

/** @type {FieldSpec[]} */
const DEPARTMENT = [
  { name: "slug", hint: "Lower case letters, digits and hyphens. It never changes." },
  { name: "name" },
  { name: "description", kind: "textarea", rows: 3 },
  { name: "icon", optional: true, hint: "An emoji." },
  { name: "color", optional: true, hint: "Such as #8B5CF6." },
  { name: "priority", kind: "number", min: 1, max: 10, hint: "1 runs first in an orchestration." },
  { name: "defaultModel", from: "models" },
  { name: "maxAgentSteps", kind: "number", min: 5, max: 100 },
  { name: "qualityCriteria", kind: "lines", rows: 5, hint: "What good work is, for the judge; one a line." },
  { name: "isActive", kind: "check", hint: "Whether new runs may use the department." },
];

/** @type {FieldSpec[]} */
const AGENT = [
  { name: "agentId", hint: "Its natural key. It never changes." },
  { name: "name" },
  { name: "department", kind: "select", from: "departments" },
  { name: "model", from: "models" },
  { name: "description", kind: "textarea", rows: 2, hint: "The agent's task, as the head of its department reads it." },
  { name: "instructionsPrompt", kind: "textarea", rows: 14, hint: "The core of its system prompt." },
  { name: "specialization", optional: true },
  { name: "maxAgentSteps", kind: "number", min: 5, max: 100 },
  { name: "qualityThreshold", kind: "number", min: 0, max: 100, step: "any", hint: "0 to 100: work below it is reviewed." },
  { name: "toolNames", kind: "lines", rows: 4, hint: "One a line; tools of MCP servers as mcp:SERVER/TOOL." },
  { name: "approvalTools", kind: "lines", rows: 3, hint: "Those of its tools whose calls a person must approve, one a line." },
  { name: "skills", kind: "lines", rows: 4, hint: "One a line." },
  { name: "qualityCriteria", kind: "lines", rows: 4, hint: "What good work is, for the judge, beside the department's; one a line." },
  { name: "outputSchema", kind: "json", rows: 6, hint: "The JSON Schema of the data that it returns. Empty: none." },
  { name: "isDepartmentHead", kind: "check", hint: "Plans, reviews and reports for its department." },
  { name: "requiresReview", kind: "check", hint: "The head reviews every output." },
  { name: "isActive", kind: "check", hint: "Whether new runs may use the agent." },
];

/** @type {FieldSpec[]} */
const TOOL = [
  { name: "toolName", hint: "By which models call it. It never changes." },
  { name: "displayName" },
  { name: "version", hint: "Must increase when the code changes." },
  { name: "description", kind: "textarea", rows: 2, hint: "As models read it." },
  { name: "executeFunction", kind: "code", rows: 16, hint: "JavaScript: (input, context) => result." },
  { name: "inputSchema", kind: "json", rows: 8, hint: "The JSON Schema of the input." },
  { name: "exampleInputs", kind: "json", rows: 8, hint: "A list; the tool is tested with each when it is saved." },
  { name: "departments", kind: "lines", rows: 3, hint: "Slugs of the departments that may use it, one a line." },
  { name: "isGlobal", kind: "check", hint: "Every department may use it." },
  { name: "idempotent", kind: "check", hint: "An interrupted call may run again." },
  { name: "requiresApproval", kind: "check", hint: "A person must approve each call before it is made." },
  { name: "isActive", kind: "check", hint: "Whether new runs may use the tool." },
];

/** @type {Kind[]} */
export const KINDS = [
  { id: "departments", title: "Departments", one: "department", path: "/departments", key: "slug", name: "name", fields: DEPARTMENT },
  { id: "agents", title: "Agents", one: "agent", path: "/agents", key: "agentId", name: "name", fields: AGENT },
  { id: "tools", title: "Tools", one: "tool", path: "/custom-tools", key: "toolName", name: "displayName", fields: TOOL },
];

/** What a new entry of each kind begins with. */
export const NEW = /** @type {Record<string, any>} */ ({
  departments: { priority: 5, qualityCriteria: [], isActive: true, maxAgentSteps: 20, color: "#8B5CF6" },
  agents: { maxAgentSteps: 20, qualityThreshold: 80, requiresReview: true, isActive: true, toolNames: [], skills: [], qualityCriteria: [] },
  tools: {
    version: "1.0.0",
    isActive: true,
    isGlobal: true,
    departments: [],
    inputSchema: { type: "object", properties: { text: { type: "string" } }, required: ["text"] },
    exampleInputs: [{ text: "Two words" }],
    executeFunction: "(input) => ({ words: input.text.split(/\\s+/).length })",
  },
});
