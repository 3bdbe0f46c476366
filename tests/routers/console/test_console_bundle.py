"""The script that is made of the console's modules."""

import json
import re

import pytest

from app.routers.console.bundle import BASE64, NotBundled, bundled, read_module, source_map
from app.routers.console.files import bundle, sources

MODULES = {
    "main.js": """/** The entry. */
import { first, second as other } from "./lib/a.js";
import "./lib/b.js";
const load = () => import("./pages/c.js");
console.log(first, other, load);
""",
    "lib/a.js": """/**
 * Two
 * functions.
 */
export function first() {}
export const second = 2;
""",
    "lib/b.js": """import vendored from "../vendor/v.js";
export { first } from "./a.js";
export { vendored as third };
""",
    "vendor/v.js": 'import{first as f}from"../lib/a.js";export default function(){return f}',
    "pages/c.js": """import { first } from "../lib/a.js";
/** The page. */
export default function Page() {
  first();
}
""",
}


def linked(changes: dict[str, str]) -> str:
    """The script of the modules, some of them changed."""
    return bundled({**MODULES, **changes}.__getitem__, "/map").text


def test_modules_become_functions_after_those_that_they_import() -> None:
    text = linked({})

    assert re.findall(r'^"(.*)": ', text, re.MULTILINE) == [
        "lib/a.js",
        "vendor/v.js",
        "lib/b.js",
        "main.js",
        "pages/c.js",
    ]
    assert 'const { first, second: other } = $use("lib/a.js");' in text
    assert '$use("lib/b.js");' in text
    assert 'const load = () => $page("pages/c.js");' in text
    assert 'const {first: f} = $use("lib/a.js");const $default=function(){return f}' in text
    assert "return { default: $default };" in text
    assert 'return { first: $use("lib/a.js").first, third: vendored };' in text
    assert "return { default: Page };" in text
    assert "functions" not in text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lib/b.js", 'import * as all from "./a.js";\n'),
        ("lib/b.js", 'import one, { first } from "./a.js";\n'),
        ("lib/b.js", "export let changing = 1;\n"),
        ("lib/b.js", 'export * from "./a.js";\n'),
        ("lib/b.js", "export default 1;\n"),
        ("vendor/v.js", 'import*as all from"../lib/a.js";'),
        ("vendor/v.js", 'var a=1;export*from"../lib/a.js";'),
        ("lib/a.js", 'import { third } from "./b.js";\n'),
    ],
)
def test_a_form_that_is_not_understood_is_refused(name: str, text: str) -> None:
    with pytest.raises(NotBundled, match=name):
        linked({name: text})


def test_the_source_map_leads_from_each_line_to_its_module() -> None:
    script = bundle()
    found = json.loads(source_map(script))
    lines, mappings = script.text.split("\n"), found["mappings"].split(";")
    source = origin = 0
    checked = 0
    for text, mapping in zip(lines, mappings, strict=False):
        if not mapping:
            continue
        _, by, down, _ = decoded(mapping)
        source, origin = source + by, origin + down
        name = found["sources"][source].removeprefix("/console/")
        line = sources()[name].decode().split("\n")[origin]
        if text and not name.startswith("vendor/") and "$use(" not in text and "$page(" not in text:
            assert text == line.removeprefix("export ").removeprefix("default "), (name, origin)
            checked += 1

    assert checked > 1000
    assert set(found["sources"]) == {f"/console/{module.name}" for module in script.modules}


def decoded(mapping: str) -> list[int]:
    """The numbers of a segment of a source map."""
    numbers: list[int] = []
    value = shift = 0
    for character in mapping:
        digit = BASE64.index(character)
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            numbers.append(-(value >> 1) if value & 1 else value >> 1)
            value = shift = 0
    return numbers


def test_a_comment_that_does_not_fill_its_lines_stays() -> None:
    module = read_module("lib/x.js", "/** Gone. */\n/** Stays. */ call();\n  /** Stays\n */ call();\n")

    assert module.body == "\n/** Stays. */ call();\n  /** Stays\n */ call();"
