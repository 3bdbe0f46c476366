/** The state of a form: values, the API's errors by field, and whether it is being sent. */
import { useState } from "./html.js";

/**
 * @template {Record<string, any>} T
 * @param {T} initial
 */
export function useForm(initial) {
  const [values, setValues] = useState(/** @type {any} */ (initial));
  const [errors, setErrors] = useState(/** @type {Record<string, string>} */ ({}));
  const [problem, setProblem] = useState(/** @type {any} */ (undefined));
  const [isBusy, setBusy] = useState(false);

  const set = (/** @type {keyof T & string} */ name) => (/** @type {any} */ value) => {
    setValues((/** @type {any} */ old) => ({ ...old, [name]: value }));
    setErrors((/** @type {any} */ old) => {
      const { [name]: _gone, ...rest } = old;
      return rest;
    });
  };

  /**
   * Sends the form. Errors of fields go beside them, others into `problem`.
   *
   * @param {() => Promise<void>} send
   */
  const submit = (send) => async (/** @type {Event} */ event) => {
    event.preventDefault();
    const form = /** @type {HTMLElement} */ (event.currentTarget);
    setBusy(true);
    setProblem(undefined);
    setErrors({});
    try {
      await send();
    } catch (error) {
      const found = errorsByField(error);
      setErrors(found);
      setProblem(error);
      if (Object.keys(found).length) {
        setTimeout(() => /** @type {HTMLElement | null} */ (form.querySelector('[aria-invalid="true"]'))?.focus(), 30);
      }
    } finally {
      setBusy(false);
    }
  };

  return { values, setValues, set, errors, problem, isBusy, submit };
}

/**
 * The messages by the first part of each path: `skills.2` belongs to `skills`.
 *
 * @param {any} error
 * @returns {Record<string, string>}
 */
export function errorsByField(error) {
  /** @type {Record<string, string>} */
  const found = {};
  for (const { path, message } of error.errors ?? []) {
    const [name, ...rest] = path.split(/[.[]/);
    const text = rest.length ? `${rest.join(".").replace("]", "")}: ${message}` : message;
    found[name] = found[name] ? `${found[name]} ${text}` : text;
  }
  return found;
}

/** An error of a text that should be JSON, in the form of the API's. */
export class JsonProblem extends Error {
  /** @param {string} path @param {string} message */
  constructor(path, message) {
    super(message);
    this.errors = [{ path, message }];
  }
}

/**
 * The value of a text in JSON.
 *
 * @param {string} text
 * @param {string} path the name of the field
 * @throws {JsonProblem}
 */
export function parseField(text, path) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new JsonProblem(path, `Not valid JSON: ${/** @type {Error} */ (error).message}`);
  }
}
