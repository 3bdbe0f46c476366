// One call of a tool, as the promise of a JSON text for the worker. What is needed of the language is taken before the
// tool's code runs, and the answer is put together from primitive strings, which no changed prototype can reach.
(async (global) => {
  "use strict";
  const { parse, stringify } = JSON;
  const { String, eval: evaluate } = global;
  const slice = Function.prototype.call.bind(String.prototype.slice);
  const { code, input, context, checkOnly, maxConsole, maxOutput } = parse(global.request);
  delete global.request;

  let logged = "";
  let room = maxConsole;
  const show = (value) => {
    try {
      return typeof value === "string" ? value : (stringify(value) ?? String(value));
    } catch {
      return "[not printable]";
    }
  };
  const log = (...values) => {
    if (room <= 0) return;
    let line = "";
    for (let i = 0; i < values.length; i++) line += (i > 0 ? " " : "") + show(values[i]);
    line = slice(line, 0, room);
    room -= line.length + 1;
    logged += (logged === "" ? "" : ",") + stringify(line);
  };
  global.console = { log, info: log, warn: log, error: log, debug: log };

  const text = (value) => (typeof value === "string" ? stringify(slice(value, 0, 2000)) : "null");
  const failed = (phase, error) => {
    let name, message, stack;
    try {
      if (typeof error === "object" && error !== null) ({ name, message, stack } = error);
      if (typeof message !== "string") message = show(error);
    } catch {
      message = "[not printable]";
    }
    return `{"phase":"${phase}","name":${text(name)},"message":${text(message)},"stack":${text(stack)}}`;
  };

  let tool;
  try {
    // As the last expression, so that comments, a semicolon or further functions may stand around the tool's own.
    tool = evaluate("0," + code);
  } catch (error) {
    return failed("compile", error);
  }
  if (typeof tool !== "function") return '{"phase":"not-a-function"}';
  if (checkOnly) return '{"output":"null","console":[]}';

  let result;
  try {
    result = await tool(input, context);
  } catch (error) {
    return failed("call", error);
  }
  let output;
  try {
    output = result === undefined ? "null" : stringify(result);
  } catch (error) {
    return failed("result", error);
  }
  if (output === undefined) return '{"phase":"result","message":"a function or a symbol"}';
  if (output.length > maxOutput) return '{"phase":"too-large"}';
  return `{"output":${stringify(output)},"console":[${logged}]}`;
})(globalThis);
