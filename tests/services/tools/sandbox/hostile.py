"""Hostile tools, each with the errors that it may end in; `RESULT` stands for an ordinary result."""

RESULT = "result"
TIMEOUT = frozenset({"tool-timeout"})
MEMORY = frozenset({"tool-memory-exceeded"})
MEMORY_OR_TIMEOUT = TIMEOUT | MEMORY
RECURSION = frozenset({"tool-recursion"})
ERROR = frozenset({"tool-error"})
INVALID = frozenset({"tool-result-invalid"})
TOO_LARGE = frozenset({"tool-output-too-large"})
NEVER = frozenset({"tool-never-settled"})
SYNTAX = frozenset({"tool-syntax-error"})
HARMLESS = frozenset({RESULT})
DENIED = frozenset({"egress-denied"})

LOOPS = {
    "while": "() => { while (true); }",
    "for in try": "() => { for (;;) { try { for (;;) {} } catch {} finally { continue } } }",
    "awaiting": "async () => { for (;;) await 0 }",
    "microtasks": "() => { const again = () => Promise.resolve().then(again); return again() }",
    "queueMicrotask": "() => new Promise(() => { const again = () => queueMicrotask(again); again() })",
    "thenable": "() => ({ then: function then(resolve) { resolve({ then }) } })",
    "then that loops": "() => ({ get then() { for (;;) {} } })",
    "regular expression": "() => /^(a+)+$/.test('a'.repeat(40) + 'b')",
    "regular expression replace": "() => 'x'.repeat(30).replace(/(x+x+)+y/g, '')",
    "toJSON": "() => ({ toJSON() { for (;;) {} } })",
    "getter": "() => ({ get a() { for (;;) {} } })",
    "proxy": "() => new Proxy({}, { get() { for (;;) {} } })",
    "proxy keys": "() => new Proxy({}, { ownKeys() { for (;;) {} } })",
    "error message": "() => { throw { get message() { for (;;) {} } } }",
    "error to string": "() => { throw { toString() { for (;;) {} } , toJSON() { for (;;) {} } } }",
    "comparison": "() => [3, 2, 1].sort(() => { for (;;) {} })",
    "iterator": "() => { for (const x of { [Symbol.iterator]: () => ({ next: () => ({}) }) }) {} }",
    "generator": "() => { function* all() { for (;;) yield 1 } return [...all()].length }",
    "at compile time": "(() => { for (;;) {} })()",
    "default argument": "(input, context, x = (() => { for (;;) {} })()) => x",
    "console": "() => { for (;;) console.log('x') }",
    "console of getters": "() => console.log({ get a() { for (;;) {} } })",
    "timer": "() => new Promise(() => setTimeout(() => { for (;;) {} }, 1))",
    "intervals": "() => new Promise(() => setInterval(() => {}, 0))",
    "timers that breed": "() => new Promise(() => { const go = () => { setTimeout(go, 0); setTimeout(go, 0) }; go() })",
    "many timers": "() => new Promise(() => { for (let i = 0; i < 9999; i++) setInterval(() => {}, 9999 - i) })",
    "far timer": "() => new Promise(resolve => setTimeout(resolve, 1e9))",
    "finally": "async () => { try { await 0 } finally { for (;;) {} } }",
    "async iterator": "async () => { for await (const x of (async function* () { for (;;) yield 1 })()) {} }",
    "uninterruptible search": "() => 'a'.repeat(5e6).indexOf('a'.repeat(2e6) + 'b')",
    "date": "() => { const end = Date.now() + 1e9; while (Date.now() < end) {} }",
    "big numbers": "() => { let n = 3n; for (;;) n = n * n % (2n ** 4000n) }",
    "eval": "() => eval('for (;;) {}')",
    "Function": "() => new Function('for (;;) {}')()",
    "fetch without end": "async (i, { fetch }) => { for (;;) { fetch('http://127.0.0.1/').catch(() => {}); await 0 } }",
    "fetch in a loop": "async (i, { fetch }) => { for (;;) try { await fetch('http://127.0.0.1/') } catch {} }",
}
MEMORY_EATERS = {
    "arrays": "() => { const all = []; for (;;) all.push(new Array(10000).fill(1)) }",
    "doubling string": "() => { let text = 'x'; for (;;) text += text }",
    "buffers": "() => { const all = []; for (;;) all.push(new ArrayBuffer(1 << 20)) }",
    "filled buffers": "() => { const all = []; for (;;) all.push(new Uint8Array(1 << 20).fill(1)) }",
    "shared buffers": "() => { const all = []; for (;;) all.push(new SharedArrayBuffer(1 << 20)) }",
    "one huge buffer": "() => new ArrayBuffer(2 ** 31).byteLength",
    "resizable buffer": "() => { const b = new ArrayBuffer(1, { maxByteLength: 1 << 30 }); b.resize(1 << 29) }",
    "repeat": "() => 'x'.repeat(1 << 28)",
    "padEnd": "() => 'x'.padEnd(1 << 28, 'abc')",
    "join": "() => new Array(1 << 26).join('xxxxxxxx')",
    "map": "() => { const m = new Map(); for (let i = 0; ; i++) m.set(i, { i }) }",
    "closures": "() => { const all = []; for (;;) { const big = new Array(1000); all.push(() => big) } }",
    "big integer": "() => { let n = 2n; for (;;) n = n ** 2n }",
    "promises": "() => { const all = []; for (;;) all.push(new Promise(() => {})) }",
    "symbols": "() => { const all = []; for (;;) all.push(Symbol('x'.repeat(1000))) }",
    "regular expressions": "() => { const all = []; for (let i = 0; ; i++) all.push(new RegExp('a'.repeat(999) + i)) }",
    "pending buffers": "async () => { const all = []; for (;;) { all.push(new Uint8Array(1 << 20)); await 0 } }",
    "caught": "() => { const all = []; for (;;) { try { all.push(new Uint8Array(1 << 20).fill(1)) } catch {} } }",
    "functions": "() => { const all = []; for (let i = 0; ; i++) all.push(new Function('return ' + i)) }",
    "clones": "() => { let a = [1]; for (;;) a = [structuredClone(a), structuredClone(a)] }",
    "encoded text": "() => { const all = []; for (;;) all.push(new TextEncoder().encode('é'.repeat(1e5))) }",
    "timers": "() => { const all = []; for (;;) all.push(new Array(1e5)), setTimeout(() => all, 0) }",
}
ESCAPES = {
    "constructor": ("() => typeof [].map.constructor('return this.process')()", HARMLESS),
    "constructor of input": ("i => i.constructor.constructor('return typeof require + typeof process')()", HARMLESS),
    "constructor of context": ("(i, c) => typeof c.fetch.constructor('return this')().process", HARMLESS),
    "error hook": ("() => { Error.prepareStackTrace = (e, s) => s; return String(new Error().stack) }", HARMLESS),
    "stack overflow hook": (
        "() => { try { (function f() { f() })() } catch (e) { return typeof e.constructor.constructor } }",
        HARMLESS | RECURSION,
    ),
    "import": ("() => import('os')", ERROR),
    "import a file": ("() => import('file:///etc/passwd')", ERROR),
    "static import": ("import os from 'os'", SYNTAX),
    "module data": ("() => import('data:text/javascript,export default 1')", ERROR),
    "prelude's names": ("() => [typeof core, typeof run, typeof exchange, typeof request].join()", HARMLESS),
    "parser tricks": ("() => 1) ; globalThis.stolen = 1 ; (0", SYNTAX),
    "comment tricks": ("() => 1 /*", SYNTAX),
    "frames": ("() => (function f() { return f.caller })() === null ? 1 : 1", HARMLESS | ERROR),
    "arguments' caller": ("function t() { return typeof t.caller + typeof t.arguments }", HARMLESS | ERROR),
    "revived input": ('i => JSON.parse(\'{"__proto__": {"a": 1}}\').a ?? 1', HARMLESS),
    "context's fetch to the loopback": ("(i, { fetch }) => fetch('http://127.0.0.1:{port}/')", DENIED),
    "fetch to a file": ("(i, { fetch }) => fetch('file:///etc/passwd')", DENIED),
    "fetch of megabytes": ("(i, { fetch }) => fetch('http://a.b/', { method: 'POST', body: 'x'.repeat(3e6) })", DENIED),
    "fetch of a long name": ("(i, { fetch }) => fetch('http://a.b/' + 'x'.repeat(3e6))", DENIED),
    "fetch with long headers": ("(i, { fetch }) => fetch('http://a.b/', { headers: { a: 'é'.repeat(3e6) } })", DENIED),
    "fetch with many headers": (
        "(i, { fetch }) => fetch('http://a.b/', { headers: Array.from({ length: 1e5 }, (_, n) => [n, '']) })",
        DENIED | TIMEOUT,
    ),
    "forged answer": ('() => \'{"output":"1","console":[]}\'', HARMLESS),
    "wasm": ("() => typeof WebAssembly", HARMLESS),
    "workers": ("() => [typeof Worker, typeof Atomics.wait, typeof os].join()", HARMLESS | ERROR),
    "waiting on shared memory": ("() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)", ERROR | TIMEOUT),
    "finalizers": ("() => { new FinalizationRegistry(() => { for (;;) {} }).register({}, 1); return 1 }", HARMLESS),
}
# Changes of a tool to the language, against the sandbox's own work while the tool waits.
TAMPERING = {
    "toJSON of everything": "Object.prototype.toJSON = () => 1",
    "forged toJSON": "Object.prototype.toJSON = () => ({ fetches: [{ url: 'http://127.0.0.1:{port}/' }], wait: 0 })",
    "endless toJSON": "Object.prototype.toJSON = Array.prototype.toJSON = () => { for (;;) {} }",
    "hungry toJSON": "Object.prototype.toJSON = () => { let n = 2n; for (;;) n = n ** 2n }",
    "setters of arrays": "Object.defineProperty(Array.prototype, '0', { set() { throw 1 }, get() { throw 2 } })",
    "no iterators": "Array.prototype[Symbol.iterator] = Map.prototype[Symbol.iterator] = null",
    "no language": "globalThis.Object = globalThis.Map = globalThis.Promise = globalThis.TypeError = null",
    "inherited fields": "Object.prototype.error = Object.prototype.fetches = Object.prototype.wait = 'forged'",
    "endless getters": "for (const n of ['error', 'due', 'base64', 'length']) "
    "Object.defineProperty(Object.prototype, n, { get() { for (;;) {} }, set() { for (;;) {} } })",
}
WAITS = {
    "a timer": (
        "const later = {}; setTimeout(() => later.go(), 1); await { then(go) { later.go = go } }; return 1",
        HARMLESS,
    ),
    "nothing": ("return new Promise(() => {})", NEVER | ERROR),
    "an answer": ("try { await fetch('http://127.0.0.1:{port}/') } catch { return 1 }", HARMLESS | TIMEOUT),
}
POLLUTION = {
    "prototypes": ("() => { Object.prototype.a = Array.prototype.a = 1; return 1 }", HARMLESS),
    "stringify": ("() => { JSON.stringify = () => 'forged'; return 1 }", HARMLESS),
    "promises": ("async () => { Promise.prototype.then = null; globalThis.Promise = null; return 1 }", HARMLESS),
    "everything": (
        "() => { for (const n of Object.getOwnPropertyNames(globalThis)) try { globalThis[n] = 0 } catch {} return 1 }",
        HARMLESS,
    ),
    "frozen": ("() => { Object.freeze(globalThis); Object.freeze(Object.prototype); return 1 }", HARMLESS),
    "maps": (
        "async () => { Map.prototype.get = null; await new Promise(done => setTimeout(done, 1)); return 1 }",
        HARMLESS,
    ),
    **{
        f"{how} while it waits for {what}": (f"async (i, {{ fetch }}) => {{ {tampering}; {wait} }}", endings)
        for how, tampering in TAMPERING.items()
        for what, (wait, endings) in WAITS.items()
    },
    "promises that are not": (
        "() => { Object.defineProperty(Promise.prototype, 'constructor', { value: null }); "
        'Promise.prototype.then = done => done(\'{"phase": "forged"}\'); return new Promise(() => {}) }',
        HARMLESS,
    ),
    "setters": (
        "() => { Object.defineProperty(Object.prototype, 'output', { set() { throw 1 } }); return {} }",
        HARMLESS,
    ),
}
ODD_RESULTS = {
    "cycle": ("() => { const a = {}; a.a = a; return a }", INVALID),
    "bigint": ("() => 1n", INVALID),
    "function": ("() => () => 1", INVALID),
    "symbol": ("() => Symbol('s')", INVALID),
    "throwing toJSON": ("() => ({ toJSON() { throw new Error('no') } })", INVALID),
    "deep": ("() => { let a = []; for (let i = 0; i < 200; i++) a = [a]; return a }", INVALID),
    "bottomless": ("() => { let a = []; for (let i = 0; i < 20000; i++) a = [a]; return a }", RECURSION | INVALID),
    "endless recursion": ("() => { const deeper = () => deeper() + 1; return deeper() }", RECURSION),
    "recursion in getters": ("() => { const o = { get a() { return o.a } }; return o.a }", RECURSION | ERROR),
    "recursion in proxies": ("() => { let p = {}; for (let i = 0; i < 1e5; i++) p = new Proxy(p, {}); return p.a }",
                             RECURSION | ERROR | MEMORY_OR_TIMEOUT | HARMLESS),
    "timer at no time": (
        "() => new Promise(() => { let n = 0; setTimeout(() => {}, { valueOf: () => (n++ ? NaN : 9) }) })",
        NEVER,
    ),
    "never settled": ("() => new Promise(() => {})", NEVER),
    "thenable that never calls": ("async () => await { then() {} }", NEVER),
    "half characters": ("() => '\\ud83d'.repeat(10)", HARMLESS),
    "thrown null": ("() => { throw null }", ERROR),
    "thrown undefined": ("() => { throw undefined }", ERROR),
    "thrown promise": ("async () => { throw Promise.reject(1) }", ERROR | HARMLESS),
    "rejected proxy": ("async () => { throw new Proxy({}, { get() { throw 1 } }) }", ERROR),
    "not a number": ("() => [NaN, Infinity, -0, undefined]", HARMLESS),
    "revoked proxy": ("() => { const r = Proxy.revocable({}, {}); r.revoke(); return r.proxy }", INVALID | ERROR),
}  # fmt: skip
FLOODS = {
    "one long text": ("() => 'x'.repeat(1 << 20)", TOO_LARGE),
    "many small values": ("() => new Array(1e5).fill(12345)", TOO_LARGE),
    "quotes": ("() => '\"'.repeat(2e5)", TOO_LARGE),
    "wide characters": ("() => '😀'.repeat(1e5)", TOO_LARGE),
    "console": ("() => { for (let i = 0; i < 2e3; i++) console.log('x'.repeat(1e3)); return 1 }", HARMLESS),
    "long message": ("() => { throw new Error('x'.repeat(1e6)) }", ERROR),
    "long name": ("() => { const e = new Error('m'); e.name = 'n'.repeat(1e6); throw e }", ERROR),
    "long stack": ("() => { const e = new Error('m'); e.stack = 's'.repeat(1e6); throw e }", ERROR),
    "aliases": ("() => { let a = 'x'.repeat(1e3); for (let i = 0; i < 20; i++) a = [a, a]; return a }",
                TOO_LARGE | MEMORY_OR_TIMEOUT | INVALID),
    "sparse array": ("() => { const a = []; a[2 ** 31] = 1; return a }", TOO_LARGE | MEMORY_OR_TIMEOUT | INVALID),
}  # fmt: skip

NONE = frozenset[str]()
# Refused with a RangeError by the engine or the sandbox before it costs anything.
REFUSED: dict[str, frozenset[str]] = dict.fromkeys(
    ("timers that breed", "one huge buffer", "big integer", "timers"), ERROR
)
SNIPPETS: dict[str, tuple[str, frozenset[str]]] = {
    **{f"loop: {name}": (code, TIMEOUT | REFUSED.get(name, NONE)) for name, code in LOOPS.items()},
    **{f"memory: {name}": (code, MEMORY_OR_TIMEOUT | REFUSED.get(name, NONE)) for name, code in MEMORY_EATERS.items()},
    **{f"escape: {name}": snippet for name, snippet in ESCAPES.items()},
    **{f"pollution: {name}": snippet for name, snippet in POLLUTION.items()},
    **{f"odd: {name}": snippet for name, snippet in ODD_RESULTS.items()},
    **{f"flood: {name}": snippet for name, snippet in FLOODS.items()},
}
