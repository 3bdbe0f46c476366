// One call of a tool. The worker sets `request` (JSON text) and evaluates `run()`, which gives the answer as JSON text,
// or a promise of it where the tool waits for something. While it waits, `exchange` tells what for, and takes what came.
// What the worker is told is put together from primitive values, and no promise of a tool's settles for the sandbox:
// nothing that a tool does to the language (`Object.prototype.toJSON`) changes what is said, or runs its code there.
(global, core) => {
  "use strict";
  const { parse, stringify, slice, Promise } = core;
  const text = (value) => (typeof value === "string" ? stringify(slice(value, 0, 2000)) : "null");
  const failed = (phase, error) => {
    let name, message, stack;
    try {
      if (typeof error === "object" && error !== null) ({ name, message, stack } = error);
      if (typeof message !== "string") message = core.show(error);
    } catch {
      message = "[not printable]";
    }
    const code = core.codeOf(error);
    return (
      `{"phase":"${phase}","code":${text(code)},"name":${text(name)},"message":${text(message)},` +
      `"stack":${text(stack)},"console":[${core.logged()}]}`
    );
  };
  const succeeded = (result, maxOutput) => {
    let output;
    try {
      output = result === undefined ? "null" : stringify(result);
    } catch (error) {
      return failed("result", error);
    }
    if (output === undefined) return failed("result", "a function or a symbol");
    if (output.length > maxOutput) return failed("too-large");
    return `{"output":${stringify(output)},"console":[${core.logged()}]}`;
  };
  const isThenable = (value) =>
    (typeof value === "object" || typeof value === "function") && value !== null && typeof value.then === "function";

  core.define("run", () => {
    const { code, input, context, checkOnly, maxConsole, maxOutput, seed, mayFetch, maxFetches, maxSent } = parse(
      global.request,
    );
    delete global.request;
    delete global.run;
    delete global.exchange;
    core.allowConsole(maxConsole);
    core.seed(seed);
    context.fetch = core.fetch({ mayFetch, maxFetches, maxSent });

    let tool;
    try {
      // As the last expression, so that comments, a semicolon or further functions may stand around the tool's own.
      tool = core.evaluate("0," + code);
    } catch (error) {
      return failed("compile", error);
    }
    if (typeof tool !== "function") return failed("not-a-function");
    if (checkOnly) return succeeded();

    let result;
    try {
      result = tool(input, context);
      if (!isThenable(result)) return succeeded(result, maxOutput);
    } catch (error) {
      return failed("call", error);
    }
    return new Promise((resolve) => {
      core.abort = (error) => resolve(failed("call", error));
      (async () => {
        try {
          result = await result;
        } catch (error) {
          return resolve(failed("call", error));
        }
        resolve(succeeded(result, maxOutput));
      })();
    });
  });

  core.define("exchange", (message) => {
    if (message === "console") return core.logged();
    if (message === "timers") core.fireTimers();
    else if (message !== "") core.receive(parse(message));
    return `{"fetches":[${core.takeFetches()}],"wait":${core.nextTimer()}}`;
  });
}
