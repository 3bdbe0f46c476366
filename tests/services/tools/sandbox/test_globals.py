"""The globals that tool authors expect besides the language itself."""

import asyncio
import time

import pytest
from pydantic import JsonValue

from tests.fixtures.sandboxes import Call, Fail

URLS: list[tuple[str, str]] = [
    ("new URL('HTTP://user:p@EXAMPLE.com:80/a/../b/./c?x=1#h').href", "http://user:p@example.com/b/c?x=1#h"),
    ("new URL('../x?y', 'https://a.b/c/d/e').href", "https://a.b/c/x?y"),
    ("new URL('//h.example/p', 'https://a.b/').href", "https://h.example/p"),
    ("new URL('?q', 'https://a.b/c?d#e').href", "https://a.b/c?q"),
    ("new URL('', 'https://a.b/c?d#e').href", "https://a.b/c?d"),
    ("new URL('http://0x7f.1/').hostname", "127.0.0.1"),
    ("new URL('http://2130706433').host", "127.0.0.1"),
    ("new URL('http://[::FFFF:127.0.0.1]:81/').host", "[::ffff:7f00:1]:81"),
    ("new URL('https://a.b/ä b\\\"').pathname", "/%C3%A4%20b%22"),
    ("new URL('mailto:a@b.c?subject=x').pathname", "a@b.c"),
    ("new URL('https://a.b:443').origin", "https://a.b"),
    ("new URL('https://a.b:8443/x').port", "8443"),
    ("JSON.stringify(new URL('https://a.b'))", '"https://a.b/"'),
    ("(u => { u.searchParams.append('k', 'a b&c'); u.hash = 'x'; u.pathname = 'p/q'; return u.href })"
     "(new URL('https://a.b/?z=1'))", "https://a.b/p/q?z=1&k=a+b%26c#x"),
    ("new URLSearchParams({ a: 'é', b: '+' }).toString()", "a=%C3%A9&b=%2B"),
    ("new URLSearchParams('?a=1&a=%32').getAll('a').join()", "1,2"),
    ("[...new URLSearchParams('b=1&a=2')].join(';')", "b,1;a,2"),
]  # fmt: skip

EPOCH = "1970-01-01T00:00:00.000Z"
EXPRESSIONS: list[tuple[str, JsonValue]] = [
    ("new TextDecoder().decode(new TextEncoder().encode('héß😀\\ud800'))", "héß😀\ufffd"),
    ("[...new TextEncoder().encode('€')]", [226, 130, 172]),
    ("new TextDecoder().decode(new Uint8Array([239, 187, 191, 255, 65]))", "\ufffdA"),
    ("new TextDecoder('utf-8', { ignoreBOM: true }).decode(new Uint8Array([239, 187, 191]))", "\ufeff"),
    ("structuredClone({ a: [1, { b: null }], d: new Date(0) })", {"a": [1, {"b": None}], "d": EPOCH}),
    ("[...structuredClone(new Map([[1, new Set([2])]])).get(1)]", [2]),
    ("(o => { o.self = o; const c = structuredClone(o); return c !== o && c.self === c })({})", True),
    ("atob(btoa('hello'))", "hello"),
    ("/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/.test(crypto.randomUUID())", True),
    ("crypto.getRandomValues(new Uint8Array(64)).some(byte => byte > 0)", True),
    ("new Set(Array.from({ length: 500 }, () => crypto.randomUUID())).size", 500),
    ("(r => r >= 0 && r < 1)(Math.random())", True),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "value"), URLS)
async def test_urls_are_as_in_a_browser(call: Call, expression: str, value: str) -> None:
    assert await call(f"() => {expression}") == value


@pytest.mark.parametrize(
    "url", ["", "no-base", "http://", "http://a b/", "http://1.2.3.256/", "http://[1::2::3]", "http://a:99999/"]
)
async def test_an_invalid_url_is_refused(call: Call, url: str) -> None:
    assert await call("url => [URL.canParse(url), URL.parse(url)]", url) == [False, None]


@pytest.mark.parametrize(("expression", "value"), EXPRESSIONS)
async def test_common_functions_behave_as_in_other_engines(call: Call, expression: str, value: JsonValue) -> None:
    assert await call(f"() => {expression}") == value


ABORTS: list[tuple[str, JsonValue]] = [
    ("(c => { c.abort(); c.abort(1); return [c.signal.aborted, c.signal.reason.name] })(new AbortController())",
     [True, "AbortError"]),
    ("AbortSignal.abort('why').reason", "why"),
    ("AbortSignal.any([new AbortController().signal, AbortSignal.abort(7)]).reason", 7),
    ("new Promise(done => AbortSignal.timeout(5).addEventListener('abort', e => done([e.type, e.target.reason.name])))",
     ["abort", "TimeoutError"]),
    ("(c => { let n = 0; const add = () => n++; c.signal.onabort = add; c.signal.addEventListener('abort', add);"
     "c.signal.addEventListener('abort', add); c.signal.removeEventListener('abort', () => 1); c.abort(); return n })"
     "(new AbortController())", 2),
    ("(c => { c.abort(new RangeError('r')); try { c.signal.throwIfAborted() } catch (e) { return e.message } })"
     "(new AbortController())", "r"),
    ("context.fetch('http://a.b/', { signal: AbortSignal.abort() }).catch(error => error.name)", "AbortError"),
    ("(c => { setTimeout(() => c.abort('late'), 1000); return Promise.all([context.fetch('http://a.b/', c)])"
     ".catch(error => error.code) })(new AbortController())", "egress-denied"),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "value"), ABORTS)
async def test_a_request_in_progress_can_be_aborted(call: Call, expression: str, value: JsonValue) -> None:
    assert await call(f"(input, context) => {expression}") == value


@pytest.mark.parametrize(
    ("expression", "name"),
    [
        ("new AbortSignal()", "TypeError"),
        ("new TextDecoder('utf-8', { fatal: true }).decode(new Uint8Array([255]))", "TypeError"),
        ("new TextDecoder('latin1')", "RangeError"),
        ("structuredClone(() => 1)", "DataCloneError"),
        ("crypto.getRandomValues(new Uint8Array(65537))", "QuotaExceededError"),
        ("setTimeout('code')", "TypeError"),
    ],
)
async def test_they_fail_as_elsewhere_too(fail: Fail, expression: str, name: str) -> None:
    failure = await fail(f"() => {expression}")

    assert failure.code == "tool-error"
    assert failure.message.startswith(name)


LOCALES = [
    "(1234.5).toLocaleString('de-DE')",
    "(1234.5).toLocaleString(undefined, { style: 'currency', currency: 'EUR' })",
    "1234n.toLocaleString('de-DE')",
    "new Date(0).toLocaleString('en-US', { timeZone: 'America/New_York' })",
    "new Date(0).toLocaleString(undefined, { timeZone: 'America/New_York' })",
    "new Date(0).toLocaleDateString('de-DE')",
    "new Date(0).toLocaleTimeString([], { hour: '2-digit' })",
    "[1234.5, new Date(0)].toLocaleString('de-DE')",
    "new Float64Array([1234.5]).toLocaleString('de-DE')",
    "'a'.localeCompare('B', 'sv')",
    "'a'.localeCompare('A', undefined, { sensitivity: 'base' })",
    "'I'.toLocaleLowerCase('tr')",
    "'i'.toLocaleUpperCase('tr')",
]


@pytest.mark.parametrize("expression", LOCALES)
async def test_a_locale_or_its_options_are_refused_where_they_would_be_ignored(fail: Fail, expression: str) -> None:
    method = expression.split("toLocale")[1].split("(")[0] if "toLocale" in expression else "localeCompare"

    failure = await fail(f"() => {expression}")

    assert failure.code == "tool-error"
    assert failure.message.startswith("TypeError: ")
    assert f"{method} takes no locales or options here, because the sandbox has no Intl: " in failure.message


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("(1234.5).toLocaleString()", "1234.5"),
        ("(1234.5).toLocaleString(undefined, undefined)", "1234.5"),
        ("typeof new Date(0).toLocaleString()", "string"),
        ("typeof new Date(0).toLocaleDateString() + typeof new Date(0).toLocaleTimeString()", "stringstring"),
        ("[1, [2], 3n].toLocaleString()", "1,2,3"),
        ("new Uint8Array([1, 2]).toLocaleString()", "1,2"),
        ("['b', 'a', 'c'].sort((one, other) => one.localeCompare(other))", ["a", "b", "c"]),
        ("'Ab'.toLocaleLowerCase() + 'Ab'.toLocaleUpperCase()", "abAB"),
        ("[Number.prototype.toLocaleString.name, 'x'.localeCompare.length]", ["toLocaleString", 1]),
        ("Object.keys(String.prototype)", []),
        ("(Intl => Intl)(typeof Intl)", "undefined"),
    ],
)
async def test_the_same_methods_work_without_a_locale(call: Call, expression: str, value: JsonValue) -> None:
    assert await call(f"() => {expression}") == value


async def test_randomness_is_never_the_same_in_two_calls(call: Call) -> None:
    drawn = await asyncio.gather(*(call("() => Math.random() + crypto.randomUUID()") for _ in range(20)))

    assert len(set(map(str, drawn))) == 20


async def test_a_timer_fires_in_its_time_and_in_order(call: Call) -> None:
    code = """async () => {
      const fired = [];
      const note = (name) => fired.push(name);
      setTimeout(note, 30, "late");
      setTimeout(note, 1, "early");
      const stopped = setTimeout(note, 5, "never");
      clearTimeout(stopped);
      let left = 3;
      await new Promise(resolve => {
        const ticking = setInterval(() => {
          note("tick");
          if (--left === 0) { clearInterval(ticking); resolve() }
        }, 20);
      });
      return fired;
    }"""

    assert await call(code) == ["early", "tick", "late", "tick", "tick"]


async def test_waiting_uses_no_cpu_time_and_lasts_no_longer_than_requested(call: Call) -> None:
    started = time.monotonic()

    assert await call("async () => { await new Promise(resolve => setTimeout(resolve, 300)); return 1 }") == 1

    assert time.monotonic() - started >= 0.3


async def test_an_error_in_a_timer_fails_the_call(fail: Fail) -> None:
    code = "() => new Promise(() => setTimeout(() => { throw new RangeError('late') }, 5))"

    failure = await fail(code)

    assert (failure.code, failure.message) == ("tool-error", "RangeError: late")


async def test_a_tool_does_not_wait_for_timers_that_it_does_not_wait_for(call: Call) -> None:
    assert await call("() => { setTimeout(() => { throw 1 }, 0); setInterval(() => {}, 1); return 'done' }") == "done"


async def test_nothing_of_the_sandbox_itself_is_in_sight(call: Call) -> None:
    code = "() => ['run', 'exchange', 'request', 'core', 'parts', 'fetch'].map(name => typeof globalThis[name])"

    assert await call(code) == ["undefined"] * 6
