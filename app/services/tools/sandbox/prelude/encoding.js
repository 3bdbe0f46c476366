// TextEncoder and TextDecoder for UTF-8.
(global, core) => {
  "use strict";
  const { Uint8Array, TypeError, RangeError, String } = core;
  const { fromCodePoint } = String;

  core.encodeUtf8 = (text) => {
    let length = 0;
    for (let i = 0; i < text.length; i++) {
      const point = text.codePointAt(i);
      if (point > 0xffff) i++;
      length += point < 0x80 ? 1 : point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
    }
    const bytes = new Uint8Array(length);
    let at = 0;
    for (let i = 0; i < text.length; i++) {
      let point = text.codePointAt(i);
      if (point > 0xffff) i++;
      else if (point >= 0xd800 && point <= 0xdfff) point = 0xfffd;
      if (point < 0x80) {
        bytes[at++] = point;
        continue;
      }
      const more = point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
      bytes[at++] = ([0, 0xc0, 0xe0, 0xf0][more]) | (point >> (6 * more));
      for (let left = more - 1; left >= 0; left--) bytes[at++] = 0x80 | ((point >> (6 * left)) & 0x3f);
    }
    return bytes;
  };

  // One character from `at`: its code point (-1: these bytes are none) and how many bytes it takes.
  const decodeOne = (bytes, at) => {
    const first = bytes[at];
    if (first < 0x80) return [first, 1];
    const more = first >= 0xc2 && first <= 0xdf ? 1 : first >= 0xe0 && first <= 0xef ? 2 : first >= 0xf0 && first <= 0xf4 ? 3 : 0;
    if (more === 0) return [-1, 1];
    let point = first & (0x3f >> more);
    for (let i = 1; i <= more; i++) {
      const next = bytes[at + i];
      const low = i > 1 ? 0x80 : first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
      const high = i > 1 ? 0xbf : first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
      if (next === undefined || next < low || next > high) return [-1, i];
      point = (point << 6) | (next & 0x3f);
    }
    return [point, more + 1];
  };
  core.decodeUtf8 = (bytes, fatal) => {
    let text = "";
    let at = 0;
    while (at < bytes.length) {
      const [point, size] = decodeOne(bytes, at);
      if (point < 0 && fatal) throw new TypeError("The encoded data was not valid UTF-8.");
      text += point < 0 ? "\ufffd" : fromCodePoint(point);
      at += size;
    }
    return text;
  };
  core.bytesOf = (value) => {
    if (value === undefined) return new Uint8Array(0);
    if (core.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    if (value instanceof ArrayBuffer) return new Uint8Array(value);
    throw new TypeError("Bytes are wanted: an ArrayBuffer or a view of one.");
  };

  core.define("TextEncoder", class TextEncoder {
    get encoding() {
      return "utf-8";
    }
    encode(text = "") {
      return core.encodeUtf8(`${text}`);
    }
    encodeInto(text, target) {
      let read = 0;
      let written = 0;
      for (const character of `${text}`) {
        const bytes = core.encodeUtf8(character);
        if (written + bytes.length > target.length) break;
        target.set(bytes, written);
        read += character.length;
        written += bytes.length;
      }
      return { read, written };
    }
  });

  core.define("TextDecoder", class TextDecoder {
    #fatal;
    #ignoreBOM;
    constructor(label = "utf-8", { fatal = false, ignoreBOM = false } = {}) {
      if (!/^\s*(utf-?8|unicode-1-1-utf-8)\s*$/i.test(label)) throw new RangeError(`Only UTF-8 is known, not ${label}.`);
      this.#fatal = Boolean(fatal);
      this.#ignoreBOM = Boolean(ignoreBOM);
    }
    get encoding() {
      return "utf-8";
    }
    get fatal() {
      return this.#fatal;
    }
    get ignoreBOM() {
      return this.#ignoreBOM;
    }
    decode(bytes) {
      const text = core.decodeUtf8(core.bytesOf(bytes), this.#fatal);
      return !this.#ignoreBOM && text.startsWith("\ufeff") ? text.slice(1) : text;
    }
  });
}
