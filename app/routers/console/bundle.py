"""The modules of the console in one script, so that a browser fetches them in one request.

Each module becomes a function that returns its exports, and runs when it is first used; its imports become calls of
those functions. Line breaks are kept, so that a line-based source map leads from the script to the modules. Only the
few forms in which the console's modules import and export are supported; any other is refused.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath

ENTRY = "main.js"
VENDOR = "vendor/"
NOTICE = "/* The licenses of the libraries in this file: /console/vendor/NAME.LICENSE.txt */"
COMMENT = re.compile(r"^[ \t]*/\*\*[^*]*(?:\*(?!/)[^*]*)*\*/[ \t]*$", re.MULTILINE)
"""A comment on lines of its own: types and explanations, which no browser needs."""
IMPORT = re.compile(r'^import (?:(?:(\w+)|\{([^}]*)\}) from )?"(\.[^"]+)";$', re.MULTILINE)
EXPORT_LIST = re.compile(r'^export \{([^}]*)\}(?: from "(\.[^"]+)")?;$', re.MULTILINE)
EXPORT = re.compile(r"^export (default )?((?:async function|function|class|const)\*? )(\w+)", re.MULTILINE)
PAGE = re.compile(r'(?<==> )import\("(\.[^"]+)"\)(?!\.)')
VENDORED_IMPORT = re.compile(r'(?<![\w$.])import(?:(\w+) from|\{([^}]*)\}from)"(\.[^"]+)";?')
VENDORED_LIST = re.compile(r'(?<![\w$.])export\{([^}]*)\}(?:from"(\.[^"]+)")?;?')
VENDORED_DEFAULT = re.compile(r"(?<![\w$.])export default (?=function\()")
LEFT = re.compile(r"^(?:import|export)\b", re.MULTILINE)
VENDORED_LEFT = re.compile(r"(?<![\w$.])(?:import\s*[{(*\"]|export\s*[{*]|export default )")
BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


class NotBundled(Exception):
    """A module imports or exports in a way that the bundle does not support."""


@dataclass
class Module:
    """A module as a function."""

    name: str
    body: str = ""
    uses: list[str] = field(default_factory=list[str])
    """The modules that it imports."""
    pages: list[str] = field(default_factory=list[str])
    """The modules that it imports when they are first needed."""
    exports: dict[str, str] = field(default_factory=dict[str, str])
    """The expression of each export."""

    def use(self, target: str) -> str:
        """Return the call that returns the exports of a module."""
        self.uses.append(resolved(self.name, target))
        return f'$use("{self.uses[-1]}")'

    def imported(self, match: re.Match[str]) -> str:
        """Return an import as a declaration. Line breaks stay."""
        default, names, target = match.groups()
        call = self.use(target)
        if default is None and names is None:
            return f"{call};"
        names = f" default: {default} " if names is None else re.sub(r"([\w$]+)\s+as\s+", r"\1: ", names)
        return f"const {{{names}}} = {call};"

    def listed(self, match: re.Match[str]) -> str:
        """Note a list of exports."""
        names, target = match.groups()
        call = f"{self.use(target)}." if target else ""
        for name in filter(None, (part.strip() for part in names.split(","))):
            inner, _, outer = name.partition(" as ")
            self.exports[outer.strip() or inner] = call + inner.strip()
        return "\n" * match[0].count("\n")

    def declared(self, match: re.Match[str]) -> str:
        """Note an export, and leave its declaration."""
        default, keyword, name = match.groups()
        self.exports["default" if default else name] = name
        return keyword + name

    def paged(self, match: re.Match[str]) -> str:
        """Return an import that waits until it is needed."""
        self.pages.append(resolved(self.name, match[1]))
        return f'$page("{self.pages[-1]}")'


def resolved(importer: str, target: str) -> str:
    """Return the path of a module from the path of the one that imports it."""
    parts = list(PurePosixPath(importer).parent.parts)
    for part in target.split("/"):
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def read_module(name: str, text: str) -> Module:
    """Return a module as a function.

    Raises:
        NotBundled: it imports or exports in another form.
    """
    module = Module(name)
    if name.startswith(VENDOR):
        text = VENDORED_IMPORT.sub(module.imported, text)
        text = VENDORED_LIST.sub(module.listed, text)
        if VENDORED_DEFAULT.search(text):
            module.exports["default"] = "$default"
            text = VENDORED_DEFAULT.sub("const $default=", text)
        left = VENDORED_LEFT
    else:
        text = COMMENT.sub(lambda match: "\n" * match[0].count("\n"), text)
        text = IMPORT.sub(module.imported, text)
        text = EXPORT_LIST.sub(module.listed, text)
        text = EXPORT.sub(module.declared, text)
        text = PAGE.sub(module.paged, text)
        left = LEFT
    if found := left.search(text):
        rest = text[found.start() : found.start() + 80]
        raise NotBundled(f"{name}: {rest!r}")
    module.body = text.rstrip("\n")
    return module


def modules_of(read: Callable[[str], str]) -> list[Module]:
    """Return the modules that the entry needs, directly or not: those of the first page first.

    Raises:
        NotBundled: modules import each other in a circle, or one is written in another form.
    """
    found: dict[str, Module] = {}
    waiting = [ENTRY]
    while waiting:
        add = partial(add_module, found, read)
        waiting.extend(page for module in add(waiting.pop(0), ()) for page in module.pages)
    return list(found.values())


def add_module(
    found: dict[str, Module], read: Callable[[str], str], name: str, importers: tuple[str, ...]
) -> Iterator[Module]:
    """Add a module and all that it imports, and yield those that are new."""
    if name in importers:
        raise NotBundled(f"{' → '.join((*importers, name))}: modules import each other in a circle.")
    if name in found:
        return
    module = read_module(name, read(name))
    for used in module.uses:
        yield from add_module(found, read, used, (*importers, name))
    found[name] = module
    yield module


@dataclass(frozen=True)
class Bundle:
    """The script of all modules."""

    modules: list[Module]
    text: str


def bundled(read: Callable[[str], str], map_address: str) -> Bundle:
    """Return the modules in one script, which names the address of its source map."""
    modules = modules_of(read)
    lines = [NOTICE, "const $modules = {"]
    for module in modules:
        exports = ", ".join(name if name == value else f"{name}: {value}" for name, value in module.exports.items())
        lines += [f'"{module.name}": () => {{', module.body, f"return {{ {exports} }};", "},"]
    lines += [
        "};",
        "const $loaded = {};",
        "const $use = (name) => ($loaded[name] ??= $modules[name]());",
        "const $page = async (name) => $use(name);",
        f'$use("{ENTRY}");',
        f"//# sourceMappingURL={map_address}",
    ]
    return Bundle(modules, "\n".join(lines) + "\n")


def source_map(bundle: Bundle) -> str:
    """Return a source map that leads from each line of the script to a line of a module."""
    mappings = ["", ""]
    before = 0
    for number, module in enumerate(bundle.modules):
        last = module.body.count("\n")
        mappings += ["", f"A{vlq(min(number, 1))}{vlq(-before)}A", *["AACA"] * last, "", ""]
        before = last
    sources = [f"/console/{module.name}" for module in bundle.modules]
    return json.dumps({"version": 3, "sources": sources, "names": [], "mappings": ";".join(mappings)})


def vlq(number: int) -> str:
    """Return a number as source maps write it."""
    rest = (abs(number) << 1) | (number < 0)
    text = ""
    while True:
        rest, digit = rest >> 5, rest & 31
        text += BASE64[digit | 32 if rest else digit]
        if not rest:
            return text
