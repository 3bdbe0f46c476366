// What the other parts need of the language, taken before any tool's code runs: no changed prototype can reach it.
(global, core) => {
  "use strict";
  const uncurry = Function.prototype.bind.bind(Function.prototype.call);
  Object.assign(core, {
    String, TypeError, RangeError, Error, Promise, DOMException, Map, Uint8Array, Uint32Array,
    parse: JSON.parse,
    stringify: JSON.stringify,
    evaluate: eval,
    queueMicrotask,
    now: Date.now,
    slice: uncurry(String.prototype.slice),
    sort: uncurry(Array.prototype.sort),
    apply: Reflect.apply,
    isArray: Array.isArray,
    isView: ArrayBuffer.isView,
    mapGet: uncurry(Map.prototype.get),
    mapSet: uncurry(Map.prototype.set),
    mapHas: uncurry(Map.prototype.has),
    mapDelete: uncurry(Map.prototype.delete),
    mapSize: uncurry(Object.getOwnPropertyDescriptor(Map.prototype, "size").get),
    mapForEach: uncurry(Map.prototype.forEach),
    // Like the engine's own names: there, changeable, and in no list of the global object's keys.
    define(name, value) {
      Object.defineProperty(global, name, { value, writable: true, configurable: true, enumerable: false });
    },
  });
}
