// URL and URLSearchParams, after the URL Standard, for ASCII host names.
(global, core) => {
  "use strict";
  const { TypeError, String } = core;
  const PORTS = { "http:": "80", "https:": "443", "ws:": "80", "wss:": "443", "ftp:": "21", "file:": "" };
  const isSpecial = (protocol) => Object.hasOwn(PORTS, protocol);
  const wrong = (text) => new TypeError(`Invalid URL: ${text}`);

  const encode = (text, keep) => {
    let encoded = "";
    for (const character of text) {
      if (keep.test(character)) encoded += character;
      else for (const byte of core.encodeUtf8(character)) encoded += `%${byte < 16 ? "0" : ""}${byte.toString(16).toUpperCase()}`;
    }
    return encoded;
  };
  const decode = (text) => {
    const bytes = core.encodeUtf8(text);
    let at = 0;
    for (let i = 0; i < bytes.length; i++, at++) {
      const pair = bytes[i] === 37 ? String.fromCharCode(bytes[i + 1] ?? 0, bytes[i + 2] ?? 0) : "";
      if (/^[0-9a-f]{2}$/i.test(pair)) {
        bytes[at] = Number(`0x${pair}`);
        i += 2;
      } else bytes[at] = bytes[i];
    }
    return core.decodeUtf8(bytes.subarray(0, at), false);
  };
  const IN_PATH = /[!$%&'()*+,\-./:;=@\[\\\]|~\w^]/;
  const IN_OPAQUE_PATH = /[\x20-\x7e]/;
  const IN_QUERY = /[!$%&()*+,\-./:;=?@\[\\\]^`{|}~\w]/;
  const IN_FRAGMENT = /[!#$%&'()*+,\-./:;=?@\[\\\]^{|}~\w]/;
  const IN_USERINFO = /[!$%&'()*+,\-.~\w]/;

  const numberOf = (part) => {
    if (/^0x[0-9a-f]*$/i.test(part)) return part.length === 2 ? 0 : Number(part);
    if (/^0[0-7]*$/.test(part)) return parseInt(part, 8);
    return /^[0-9]+$/.test(part) ? Number(part) : NaN;
  };
  const ipv4 = (host) => {
    const parts = host.split(".");
    if (parts.length > 1 && parts.at(-1) === "") parts.pop();
    const last = parts.at(-1);
    if (!/^([0-9]+|0x[0-9a-f]*)$/i.test(last)) return host;
    const numbers = parts.map(numberOf);
    const tail = numbers.pop();
    if (parts.length > 4 || numbers.some((one) => !(one < 256)) || !(tail < 256 ** (4 - numbers.length))) throw wrong(host);
    const value = numbers.reduce((sum, one, place) => sum + one * 256 ** (3 - place), tail);
    return [24, 16, 8, 0].map((bits) => Math.floor(value / 2 ** bits) % 256).join(".");
  };
  const ipv6 = (inner) => {
    const dotted = /^(.*:)(\d{1,3}(?:\.\d{1,3}){3})$/.exec(inner);
    if (dotted) {
      const [a, b, c, d] = dotted[2].split(".").map(Number);
      if ([a, b, c, d].some((one) => one > 255)) throw wrong(inner);
      inner = `${dotted[1]}${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
    }
    const [before, after, more] = inner.split("::");
    if (more !== undefined) throw wrong(inner);
    const groups = (text) => (text ? text.split(":") : []);
    const [head, foot] = [groups(before), groups(after)];
    const missing = 8 - head.length - foot.length;
    if (after === undefined ? missing !== 0 : missing < 1) throw wrong(inner);
    const all = [...head, ...new Array(after === undefined ? 0 : missing).fill("0"), ...foot];
    if (!all.every((one) => /^[0-9a-f]{1,4}$/i.test(one))) throw wrong(inner);
    const short = all.map((one) => parseInt(one, 16).toString(16));
    let [best, length] = [-1, 1];
    for (let i = 0; i < 8; i++) {
      let run = 0;
      while (short[i + run] === "0") run++;
      if (run > length) [best, length] = [i, run];
    }
    if (best < 0) return `[${short.join(":")}]`;
    return `[${short.slice(0, best).join(":")}::${short.slice(best + length).join(":")}]`;
  };
  const hostOf = (text, special) => {
    if (text.startsWith("[")) {
      if (!text.endsWith("]")) throw wrong(text);
      return ipv6(text.slice(1, -1));
    }
    if (!special) {
      if (/[\0\t\n\r #/<>?@[\\\]^|]/.test(text)) throw wrong(text);
      return encode(text, IN_OPAQUE_PATH);
    }
    const host = decode(text).toLowerCase();
    if (host === "" || !/^[\x21-\x7e]+$/.test(host) || /[#%/:<>?@[\\\]^|]/.test(host)) throw wrong(text);
    return ipv4(host);
  };
  const pathOf = (text, base, special) => {
    const separators = special ? /[/\\]/ : /\//;
    const steps = text.split(separators);
    const path = separators.test(text[0] ?? "") ? [] : base.slice(0, -1);
    if (path.length === 0 && steps[0] === "" && steps.length > 1) steps.shift();
    steps.forEach((step, place) => {
      const plain = step.replace(/%2e/gi, ".");
      const isLast = place === steps.length - 1;
      if (plain === "..") path.pop();
      else if (plain !== ".") path.push(encode(step, IN_PATH));
      if (isLast && (plain === "." || plain === "..")) path.push("");
    });
    return path;
  };

  const authorityOf = (text, protocol, url) => {
    const at = text.lastIndexOf("@");
    if (at >= 0) {
      const [user, ...secret] = text.slice(0, at).split(":");
      url.username = encode(user, IN_USERINFO);
      url.password = encode(secret.join(":"), IN_USERINFO);
    }
    const [, host, port] = /^(\[[^\]]*\]|[^:]*)(?::([0-9]*))?$/.exec(text.slice(at + 1)) ?? [];
    if (host === undefined || Number(port) > 65535) throw wrong(text);
    if (host === "" && (isSpecial(protocol) ? protocol !== "file:" : at >= 0 || port)) throw wrong(text);
    url.host = host === "" ? "" : hostOf(host, isSpecial(protocol));
    url.port = port && `${Number(port)}` !== PORTS[protocol] ? `${Number(port)}` : "";
  };
  // A URL's parts; `path` is a list of steps, or a text where the scheme has no hierarchy.
  const parseUrl = (input, base) => {
    let text = input.replace(/^[\0-\x20]+|[\0-\x20]+$/g, "").replace(/[\t\n\r]/g, "");
    const url = { protocol: "", username: "", password: "", host: null, port: "", path: [], query: null, fragment: null };
    const cut = (mark) => {
      const place = text.indexOf(mark);
      if (place < 0) return null;
      const rest = text.slice(place + 1);
      text = text.slice(0, place);
      return rest;
    };
    const fragment = cut("#");
    url.fragment = fragment === null ? null : encode(fragment, IN_FRAGMENT);
    const query = cut("?");
    const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(text);
    url.protocol = scheme ? `${scheme[1].toLowerCase()}:` : (base?.protocol ?? "");
    if (url.protocol === "") throw wrong(input);
    const special = isSpecial(url.protocol);
    url.query = query === null ? null : encode(query, special ? IN_QUERY : /[!$%&'()*+,\-./:;=?@\[\\\]^`{|}~\w]/);
    let rest = scheme ? text.slice(scheme[0].length) : text;
    const slashes = special ? /^[/\\]{2}/ : /^\/\//;
    const inherits = !scheme || (special && base?.protocol === url.protocol && !slashes.test(rest));
    if (scheme && special && !inherits && url.protocol !== "file:") rest = `//${rest.replace(/^[/\\]*/, "")}`;
    if (slashes.test(rest)) {
      const [, authority, path] = (special ? /^..([^/\\]*)([^]*)$/ : /^..([^/]*)([^]*)$/).exec(rest);
      authorityOf(authority, url.protocol, url);
      if (path !== "" || special) url.path = pathOf(path || "/", [], special);
    } else if (inherits && base) {
      if (typeof base.path === "string" && (rest !== "" || query !== null)) throw wrong(input);
      Object.assign(url, { username: base.username, password: base.password, host: base.host, port: base.port });
      url.path = rest === "" ? base.path : pathOf(rest, base.path, special);
      if (rest === "" && query === null) url.query = base.query;
    } else if (special || rest.startsWith("/")) {
      url.host = special ? "" : null;
      url.path = pathOf(rest || "/", [], special);
    } else url.path = encode(rest, IN_OPAQUE_PATH);
    return url;
  };
  const pathname = ({ path }) => (typeof path === "string" ? path : path.length > 0 ? `/${path.join("/")}` : "");
  const hostAndPort = ({ host, port }) => (host ?? "") + (port === "" ? "" : `:${port}`);
  const serialise = (url) => {
    const secret = url.password === "" ? "" : `:${url.password}`;
    const user = url.username === "" && secret === "" ? "" : `${url.username}${secret}@`;
    const authority = url.host === null ? "" : `//${user}${hostAndPort(url)}`;
    const query = url.query === null ? "" : `?${url.query}`;
    return url.protocol + authority + pathname(url) + query + (url.fragment === null ? "" : `#${url.fragment}`);
  };

  const inForm = (text) => encode(text, /[*\-.\w ]/).replaceAll(" ", "+");
  const outOfForm = (text) => decode(text.replaceAll("+", " "));
  class URLSearchParams {
    #pairs = [];
    #changed;
    constructor(init = "", changed = undefined) {
      this.#changed = changed;
      if (typeof init === "string") this.#read(init);
      else for (const [name, value] of init[Symbol.iterator] ? init : Object.entries(init)) this.#pairs.push([`${name}`, `${value}`]);
    }
    #read(text) {
      for (const part of text.replace(/^\?/, "").split("&")) {
        if (part === "") continue;
        const [name, ...value] = part.split("=");
        this.#pairs.push([outOfForm(name), outOfForm(value.join("="))]);
      }
    }
    #replace(pairs) {
      this.#pairs = pairs;
      this.#changed?.(this.toString());
    }
    get size() {
      return this.#pairs.length;
    }
    append(name, value) {
      this.#replace([...this.#pairs, [`${name}`, `${value}`]]);
    }
    delete(name, value) {
      this.#replace(this.#pairs.filter(([key, one]) => key !== `${name}` || (value !== undefined && one !== `${value}`)));
    }
    get(name) {
      return this.#pairs.find(([key]) => key === `${name}`)?.[1] ?? null;
    }
    getAll(name) {
      return this.#pairs.filter(([key]) => key === `${name}`).map(([, value]) => value);
    }
    has(name, value) {
      return this.#pairs.some(([key, one]) => key === `${name}` && (value === undefined || one === `${value}`));
    }
    set(name, value) {
      const place = this.#pairs.findIndex(([key]) => key === `${name}`);
      if (place < 0) return this.append(name, value);
      const others = this.#pairs.filter(([key], at) => at <= place || key !== `${name}`);
      others[place] = [`${name}`, `${value}`];
      return this.#replace(others);
    }
    sort() {
      this.#replace(this.#pairs.toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
    }
    forEach(callback, self) {
      for (const [name, value] of this.#pairs) callback.call(self, value, name, this);
    }
    *entries() {
      for (const [name, value] of this.#pairs) yield [name, value];
    }
    *keys() {
      for (const [name] of this.#pairs) yield name;
    }
    *values() {
      for (const [, value] of this.#pairs) yield value;
    }
    [Symbol.iterator]() {
      return this.entries();
    }
    toString() {
      return this.#pairs.map(([name, value]) => `${inForm(name)}=${inForm(value)}`).join("&");
    }
  }

  class URL {
    #url;
    #params;
    constructor(text, base) {
      this.#url = parseUrl(`${text}`, base === undefined ? undefined : parseUrl(`${base}`));
    }
    static canParse(text, base) {
      return URL.parse(text, base) !== null;
    }
    static parse(text, base) {
      try {
        return new URL(text, base);
      } catch {
        return null;
      }
    }
    get href() {
      return serialise(this.#url);
    }
    set href(text) {
      this.#url = parseUrl(`${text}`);
      this.#params = undefined;
    }
    get origin() {
      const { protocol } = this.#url;
      return isSpecial(protocol) && protocol !== "file:" ? `${protocol}//${this.host}` : "null";
    }
    get protocol() {
      return this.#url.protocol;
    }
    set protocol(text) {
      const protocol = `${`${text}`.replace(/:.*$/, "").toLowerCase()}:`;
      if (isSpecial(protocol) === isSpecial(this.#url.protocol)) {
        const port = this.#url.port || PORTS[this.#url.protocol];
        this.#url.protocol = protocol;
        this.#url.port = this.#url.port && port !== PORTS[protocol] ? port : "";
      }
    }
    get username() {
      return this.#url.username;
    }
    set username(text) {
      this.#url.username = encode(`${text}`, IN_USERINFO);
    }
    get password() {
      return this.#url.password;
    }
    set password(text) {
      this.#url.password = encode(`${text}`, IN_USERINFO);
    }
    get host() {
      return hostAndPort(this.#url);
    }
    set host(text) {
      const changed = { username: this.#url.username, password: this.#url.password };
      const old = this.#url.port;
      authorityOf(`${text}`.replace(/[/?#\\].*$/, "").replace(/@/g, "%40"), this.#url.protocol, changed);
      Object.assign(this.#url, { host: changed.host, port: /:[0-9]+$/.test(`${text}`) ? changed.port : old });
    }
    get hostname() {
      return this.#url.host ?? "";
    }
    set hostname(text) {
      this.#url.host = hostOf(`${text}`.replace(/[/?#\\].*$/, ""), isSpecial(this.#url.protocol));
    }
    get port() {
      return this.#url.port;
    }
    set port(text) {
      const port = `${text}`;
      if (/^[0-9]*$/.test(port) && Number(port) < 65536) this.#url.port = port === PORTS[this.#url.protocol] ? "" : port;
    }
    get pathname() {
      return pathname(this.#url);
    }
    set pathname(text) {
      const special = isSpecial(this.#url.protocol);
      const path = `${text}`.replaceAll("?", "%3F").replaceAll("#", "%23");
      if (typeof this.#url.path !== "string") this.#url.path = pathOf(/^[/\\]/.test(path) ? path : `/${path}`, [], special);
    }
    get search() {
      return this.#url.query ? `?${this.#url.query}` : "";
    }
    set search(text) {
      const query = `${text}`.replace(/^\?/, "");
      this.#url.query = query === "" ? null : encode(query, IN_QUERY);
      this.#params = undefined;
    }
    get searchParams() {
      this.#params ??= new URLSearchParams(this.#url.query ?? "", (query) => {
        this.#url.query = query === "" ? null : query;
      });
      return this.#params;
    }
    get hash() {
      return this.#url.fragment ? `#${this.#url.fragment}` : "";
    }
    set hash(text) {
      const fragment = `${text}`.replace(/^#/, "");
      this.#url.fragment = fragment === "" ? null : encode(fragment, IN_FRAGMENT);
    }
    toString() {
      return this.href;
    }
    toJSON() {
      return this.href;
    }
  }
  core.define("URL", URL);
  core.define("URLSearchParams", URLSearchParams);
}
