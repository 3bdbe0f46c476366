/** Between the API's values and the texts of a form. */
import { json } from "../../lib/format.js";
import { parseField } from "../../lib/use-form.js";

/** @typedef {import("./kinds.js").FieldSpec} FieldSpec */

/**
 * The values of a form for an entry.
 *
 * @param {FieldSpec[]} fields
 * @param {any} entry
 * @returns {Record<string, any>}
 */
export const toForm = (fields, entry) => Object.fromEntries(fields.map((field) => [field.name, toText(field, entry[field.name])]));

/**
 * @param {FieldSpec} field
 * @param {any} value
 */
function toText(field, value) {
  if (field.kind === "check") return Boolean(value);
  if (value === null || value === undefined) return "";
  if (field.kind === "lines") return value.join("\n");
  if (field.kind === "json") return json(value);
  return String(value);
}

/**
 * @param {FieldSpec} field
 * @param {any} text
 */
function toValue(field, text) {
  if (field.kind === "check") return text;
  if (field.kind === "lines") return text.split("\n").map((/** @type {string} */ one) => one.trim()).filter(Boolean);
  if (field.kind === "json") return text.trim() ? parseField(text, field.name) : undefined;
  if (field.kind === "number") return text === "" ? undefined : Number(text);
  if (text === "") return field.optional ? null : "";
  return text;
}

/**
 * The body that creates an entry: without what was left empty.
 *
 * @param {FieldSpec[]} fields
 * @param {Record<string, any>} values
 */
export function toBody(fields, values) {
  const pairs = fields.map((field) => [field.name, toValue(field, values[field.name])]);
  return Object.fromEntries(pairs.filter(([, value]) => value !== undefined && value !== null && value !== ""));
}

/**
 * The merge patch that turns an entry into what the form says.
 *
 * @param {FieldSpec[]} fields
 * @param {Record<string, any>} before
 * @param {Record<string, any>} values
 */
export function toPatch(fields, before, values) {
  const changed = fields.filter((field) => values[field.name] !== before[field.name]);
  return Object.fromEntries(
    changed.map((field) => {
      const value = toValue(field, values[field.name]) ?? null;
      return [field.name, field.kind === "json" ? mergePatch(toValue(field, before[field.name]), value) : value];
    }),
  );
}

/**
 * The merge patch that turns one JSON value into another: an object's missing keys are `null`.
 *
 * @param {any} before
 * @param {any} after
 * @returns {any}
 */
function mergePatch(before, after) {
  if (!isObject(before) || !isObject(after)) return after;
  const removed = Object.keys(before).filter((name) => !(name in after)).map((name) => [name, null]);
  return Object.fromEntries([...Object.entries(after).map(([name, value]) => [name, mergePatch(before[name], value)]), ...removed]);
}

/** @param {any} value */
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
