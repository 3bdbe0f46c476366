// Randomness. Every engine begins from one image, so its numbers come from the seed that the service sends with each
// call: 32 bytes in hexadecimal, the key of a ChaCha20 stream.
(global, core) => {
  "use strict";
  const { Uint32Array, Uint8Array, TypeError } = core;
  const block = new Uint32Array(16);
  const state = new Uint32Array([0x61707865, 0x3320646e, 0x79622d32, 0x6b206574, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
  let used = 16;

  const quarter = (a, b, c, d) => {
    const turn = (to, add, by) => {
      block[to] += block[add];
      return by;
    };
    const mix = (to, by, bits) => {
      const mixed = block[to] ^ block[by];
      block[to] = (mixed << bits) | (mixed >>> (32 - bits));
    };
    turn(a, b);
    mix(d, a, 16);
    turn(c, d);
    mix(b, c, 12);
    turn(a, b);
    mix(d, a, 8);
    turn(c, d);
    mix(b, c, 7);
  };
  const nextWord = () => {
    if (used === 16) {
      block.set(state);
      for (let round = 0; round < 10; round++) {
        for (let i = 0; i < 4; i++) quarter(i, i + 4, i + 8, i + 12);
        for (let i = 0; i < 4; i++) quarter(i, 4 + ((i + 1) % 4), 8 + ((i + 2) % 4), 12 + ((i + 3) % 4));
      }
      for (let i = 0; i < 16; i++) block[i] += state[i];
      if (++state[12] === 0) state[13]++;
      used = 0;
    }
    return block[used++];
  };

  core.seed = (hex) => {
    for (let i = 0; i < 8; i++) state[4 + i] = Number(`0x${core.slice(hex, i * 8, i * 8 + 8)}`);
  };
  Math.random = function random() {
    return ((nextWord() >>> 5) * 2 ** 26 + (nextWord() >>> 6)) / 2 ** 53;
  };
  const fill = (array) => {
    const bytes = core.bytesOf(array);
    if (bytes.length > 65536) throw new core.DOMException("At most 65536 bytes at a time.", "QuotaExceededError");
    for (let i = 0; i < bytes.length; i++) bytes[i] = nextWord();
    return array;
  };
  core.define("crypto", {
    getRandomValues(array) {
      if (!core.isView(array)) throw new TypeError("An integer array is wanted.");
      return fill(array);
    },
    randomUUID() {
      const bytes = fill(new Uint8Array(16));
      bytes[6] = (bytes[6] & 0x0f) | 0x40;
      bytes[8] = (bytes[8] & 0x3f) | 0x80;
      const hex = bytes.toHex();
      return [[0, 8], [8, 12], [12, 16], [16, 20], [20, 32]].map(([from, to]) => hex.slice(from, to)).join("-");
    },
  });
}
