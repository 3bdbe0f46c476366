/** Copying texts. */
import { toast } from "../components/toast.js";

/**
 * Copies a text and says so.
 *
 * @param {string} text
 * @param {string} name of the thing that was copied
 */
export async function copy(text, name) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    copyBySelection(text);
  }
  toast(`${name} copied.`);
}

/**
 * The way for pages without a secure context, where browsers offer no clipboard.
 *
 * @param {string} text
 */
function copyBySelection(text) {
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "hidden";
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** @param {string} text */
const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/**
 * The command that reads a path of the API, with the key as a variable of the shell.
 *
 * @param {string} path
 */
export const readCommand = (path) => `curl -s ${quoted(location.origin + path)} -H "Authorization: Bearer $KEY"`;

/**
 * The command that sends JSON to a path of the API.
 *
 * @param {string} path
 * @param {any} body
 */
export const sendCommand = (path, body) =>
  `curl -s ${quoted(location.origin + path)} -H "Authorization: Bearer $KEY" -H 'Content-Type: application/json' -d ${quoted(JSON.stringify(body))}`;
