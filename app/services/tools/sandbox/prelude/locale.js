// The engine has no Intl, so it ignores the locale and the options of these methods. Calls that pass either fail
// instead of returning a result formatted for the wrong language or time zone.
(global, core) => {
  "use strict";
  const { apply, TypeError } = core;
  const NUMBERS = "use toFixed() and replace()";
  const DATES = "use toISOString() or the getUTC… methods";
  const TEXTS = "use toUpperCase(), toLowerCase() and normalize()";
  const METHODS = [
    ["Number", Number.prototype, "toLocaleString", 0, NUMBERS],
    ["BigInt", BigInt.prototype, "toLocaleString", 0, "use toString()"],
    ["Date", Date.prototype, "toLocaleString", 0, DATES],
    ["Date", Date.prototype, "toLocaleDateString", 0, DATES],
    ["Date", Date.prototype, "toLocaleTimeString", 0, DATES],
    ["Array", Array.prototype, "toLocaleString", 0, "use map() and join()"],
    ["TypedArray", Object.getPrototypeOf(Uint8Array.prototype), "toLocaleString", 0, "use join()"],
    ["String", String.prototype, "localeCompare", 1, "compare values from normalize() and toLowerCase()"],
    ["String", String.prototype, "toLocaleLowerCase", 0, TEXTS],
    ["String", String.prototype, "toLocaleUpperCase", 0, TEXTS],
  ];

  for (const [owner, prototype, name, first, advice] of METHODS) {
    const original = prototype[name];
    // A method, so that, like the original, it is not a constructor.
    const { checked } = {
      checked(...given) {
        for (let place = first; place < given.length; place++) {
          if (given[place] === undefined) continue;
          throw new TypeError(
            `${owner}.prototype.${name} takes no locales or options here, because the sandbox has no Intl: ${advice}.`,
          );
        }
        return apply(original, this, given);
      },
    };
    Object.defineProperty(checked, "name", { value: name, configurable: true });
    Object.defineProperty(checked, "length", { value: original.length, configurable: true });
    Object.defineProperty(prototype, name, { value: checked, writable: true, configurable: true, enumerable: false });
  }
}
