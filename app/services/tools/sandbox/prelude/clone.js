// structuredClone: of plain values, and of the language's own classes.
(global, core) => {
  "use strict";
  const refuse = (value) => {
    throw new core.DOMException(`${core.show(value)} could not be cloned.`, "DataCloneError");
  };
  const tag = Function.prototype.call.bind(Object.prototype.toString);
  const BOXES = { "[object Boolean]": Boolean, "[object Number]": Number, "[object String]": String };

  const shellOf = (value) => {
    if (value instanceof Date) return new Date(value.getTime());
    if (value instanceof RegExp) return new RegExp(value.source, value.flags);
    if (value instanceof Map) return new Map();
    if (value instanceof Set) return new Set();
    if (value instanceof ArrayBuffer) return value.slice(0);
    if (value instanceof DataView) return new DataView(value.buffer.slice(0), value.byteOffset, value.byteLength);
    if (core.isView(value)) return value.slice();
    if (value instanceof Error) return new Error(value.message);
    if (core.isArray(value)) return new Array(value.length);
    if (value instanceof Promise || value instanceof WeakMap || value instanceof WeakSet) return refuse(value);
    const box = BOXES[tag(value)];
    return box ? Object(box(value)) : {};
  };

  const copy = (value, seen) => {
    if (typeof value === "function" || typeof value === "symbol") return refuse(value);
    if (typeof value !== "object" || value === null) return value;
    if (seen.has(value)) return seen.get(value);
    const shell = shellOf(value);
    seen.set(value, shell);
    if (value instanceof Map) {
      for (const [key, one] of value) shell.set(copy(key, seen), copy(one, seen));
    } else if (value instanceof Set) {
      for (const one of value) shell.add(copy(one, seen));
    } else if (value instanceof Error) {
      for (const name of ["name", "stack", "cause"]) {
        if (Object.hasOwn(value, name) || (name === "name" && value.name !== shell.name)) {
          Object.defineProperty(shell, name, { value: copy(value[name], seen), writable: true, configurable: true });
        }
      }
    } else if (core.isArray(value) || tag(shell) === "[object Object]") {
      for (const key of Object.keys(value)) shell[key] = copy(value[key], seen);
    }
    return shell;
  };
  core.define("structuredClone", function structuredClone(value) {
    return copy(value, new Map());
  });
}
