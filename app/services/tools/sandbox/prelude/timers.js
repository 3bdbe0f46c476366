// Timers: kept here, fired when the worker says that their time has come.
(global, core) => {
  "use strict";
  const MAX_TIMERS = 10000;
  const MAX_DELAY = 2 ** 31 - 1;
  const timers = new core.Map();
  let last = 0;

  const start = (name, repeats) => {
    const set = (callback, delay, ...values) => {
      if (typeof callback !== "function") throw new core.TypeError(`${name} needs a function.`);
      if (core.mapSize(timers) >= MAX_TIMERS) throw new core.RangeError(`At most ${MAX_TIMERS} timers wait at a time.`);
      const wanted = +delay;
      const every = wanted > 0 && wanted <= MAX_DELAY ? wanted : wanted > MAX_DELAY ? MAX_DELAY : 0;
      const id = ++last;
      core.mapSet(timers, id, { id, due: core.now() + every, every: repeats ? every : -1, callback, values });
      return id;
    };
    core.define(name, set);
  };
  start("setTimeout", false);
  start("setInterval", true);
  const stop = (id) => {
    core.mapDelete(timers, id);
  };
  core.define("clearTimeout", stop);
  core.define("clearInterval", stop);

  // How many milliseconds until the next timer is due, or null.
  core.nextTimer = () => {
    let next = null;
    core.mapForEach(timers, ({ due }) => {
      if (next === null || due < next) next = due;
    });
    const wait = next === null ? null : next - core.now();
    return wait === null || wait > 0 ? wait : 0;
  };
  // The callbacks run as reactions, where the tool's deadline holds; one that throws fails the call.
  core.fireTimers = () => {
    const now = core.now();
    // Without a prototype: a setter that a tool gave to all arrays would be called.
    const due = { __proto__: null, length: 0 };
    core.mapForEach(timers, (timer) => {
      if (timer.due <= now) due[due.length++] = timer;
    });
    core.sort(due, (one, other) => one.due - other.due || one.id - other.id);
    for (let i = 0; i < due.length; i++) {
      const timer = due[i];
      core.queueMicrotask(() => {
        if (!core.mapHas(timers, timer.id)) return;
        if (timer.every < 0) core.mapDelete(timers, timer.id);
        else timer.due = core.now() + (timer.every > 1 ? timer.every : 1);
        try {
          core.apply(timer.callback, undefined, timer.values);
        } catch (error) {
          core.abort(error);
        }
      });
    }
  };
}
