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

  const log = (...values) => {
    if (room <= 0) return;
    let line = "";
    for (let i = 0; i < values.length; i++) line += (i > 0 ? " " : "") + core.show(values[i]);
    line = slice(line, 0, room);
    room -= line.length + 1;
    logged += (logged === "" ? "" : ",") + stringify(line);
  };
  core.define("console", { log, info: log, warn: log, error: log, debug: log, trace: log });
}
