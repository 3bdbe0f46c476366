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
      const every = delay > 0 && delay <= MAX_DELAY ? +delay : delay > MAX_DELAY ? MAX_DELAY : 0;
      core.mapSet(timers, ++last, { due: core.now() + every, every: repeats ? every : -1, callback, values });
      return last;
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
    const due = [];
    core.mapForEach(timers, (timer, id) => {
      if (timer.due <= now) core.push(due, [timer.due, id, timer]);
    });
    for (let i = 1; i < due.length; i++) {
      const one = due[i];
      let at = i;
      while (at > 0 && due[at - 1][0] > one[0]) due[at] = due[--at];
      due[at] = one;
    }
    for (let i = 0; i < due.length; i++) {
      const [, id, timer] = due[i];
      core.queueMicrotask(() => {
        if (!core.mapHas(timers, id)) return;
        if (timer.every < 0) core.mapDelete(timers, id);
        else timer.due = core.now() + (timer.every > 1 ? timer.every : 1);
        try {
          timer.callback(...timer.values);
        } catch (error) {
          core.abort(error);
        }
      });
    }
  };
}
