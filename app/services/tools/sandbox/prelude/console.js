// What a tool logs: lines put together from primitive strings, cut when there is no room left.
(global, core) => {
  "use strict";
  const { String, slice, stringify } = core;
  let logged = "";
  let room = 0;

  core.show = (value) => {
    try {
      if (typeof value === "string") return value;
      if (value instanceof core.Error) return `${value.name}: ${value.message}`;
      return stringify(value) ?? String(value);
    } catch {
      return "[not printable]";
    }
  };
  core.allowConsole = (characters) => {
    room = characters;
  };
  core.logged = () => logged;

  const NUMBERS = { __proto__: null, d: Number, i: parseInt, f: parseFloat };
  const filled = (mark, value) => {
    if (mark === "c") return "";
    return NUMBERS[mark] && typeof value !== "symbol" ? `${NUMBERS[mark](value)}` : core.show(value);
  };
  // The first value may say where the next ones go: `%s`, `%d`, `%i`, `%f`, `%o`, `%O`, `%j`.
  const lineOf = (values) => {
    let line = "";
    let next = 0;
    if (typeof values[0] === "string" && values.length > 1) {
      const format = slice(values[next++], 0, room);
      for (let i = 0; i < format.length; i++) {
        const mark = format[i] === "%" ? format[i + 1] : undefined;
        if (mark === "%") line += "%";
        else if (mark !== undefined && "sdifoOjc".includes(mark) && next < values.length) line += filled(mark, values[next++]);
        else {
          line += format[i];
          continue;
        }
        i++;
      }
      if (next < values.length) line += " ";
    }
    for (const first = next; next < values.length; next++) line += (next > first ? " " : "") + core.show(values[next]);
    return line;
  };
  const log = (...values) => {
    if (room <= 0) return;
    const line = slice(lineOf(values), 0, room);
    room -= line.length + 1;
    logged += (logged === "" ? "" : ",") + stringify(line);
  };

  const counts = new core.Map();
  const starts = new core.Map();
  const took = (label) => `${label}: ${core.now() - (core.mapGet(starts, label) ?? core.now())} ms`;
  core.define("console", {
    log, info: log, warn: log, error: log, debug: log, trace: log, dir: (value) => log(value), table: (value) => log(value),
    group: log, groupCollapsed: log, groupEnd() {}, clear() {},
    assert: (holds, first = "", ...values) => {
      if (holds) return;
      if (typeof first === "string") log(`Assertion failed${first && ": "}${first}`, ...values);
      else log("Assertion failed", first, ...values);
    },
    count: (label = "default") => {
      const count = (core.mapGet(counts, `${label}`) ?? 0) + 1;
      core.mapSet(counts, `${label}`, count);
      log(`${label}: ${count}`);
    },
    countReset: (label = "default") => {
      core.mapDelete(counts, `${label}`);
    },
    time: (label = "default") => {
      core.mapSet(starts, `${label}`, core.now());
    },
    timeLog: (label = "default", ...values) => log(took(`${label}`), ...values),
    timeEnd: (label = "default") => {
      log(took(`${label}`));
      core.mapDelete(starts, `${label}`);
    },
  });
}
