"""The files of the console as they are sent.

They are read once, when the application is made: no request reads the disk or can name another file. The modules, and
the styles, go out as one file each, under an address with the digest of its content, which browsers cache permanently.
"""

import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cache, cached_property
from mimetypes import guess_type
from pathlib import Path

from app.routers.console.bundle import Bundle, bundled, source_map

FILES = Path(__file__).parents[2] / "console"
INDEX, FIRST, SCRIPT, STYLES, MAP = "index.html", "first.js", "console.js", "console.css", "console.js.map"
STYLE_ORDER = ("tokens", "base", "components", "shell", "run", "pages")
ICON = "icon.svg"
HASHED = re.compile(r"(console|first|icon)\.[0-9a-f]{16}(\.\w+)")
"""A name with a digest. An instance of another version may have named it."""


@dataclass(frozen=True)
class ConsoleFile:
    """A file as it is sent."""

    content: bytes
    media_type: str

    @cached_property
    def digest(self) -> str:
        """The digest of the content."""
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def packed(self) -> bytes:
        """The content, compressed with gzip."""
        return gzip.compress(self.content, mtime=0)


def file_of(name: str, content: bytes) -> ConsoleFile:
    """Return a file with the media type that its name implies."""
    media_type = "application/json" if name.endswith(".map") else guess_type(name)[0] or "application/octet-stream"
    if media_type.startswith("text/"):
        media_type += "; charset=utf-8"
    return ConsoleFile(content, media_type)


@cache
def sources() -> dict[str, bytes]:
    """Return every file in the console's folder by its path."""
    return {
        path.relative_to(FILES).as_posix(): path.read_bytes() for path in sorted(FILES.rglob("*")) if path.is_file()
    }


@cache
def bundle() -> Bundle:
    """Return the script of all modules."""
    return bundled(lambda name: sources()[name].decode(), f"/console/{MAP}")


@cache
def console_files() -> dict[str, ConsoleFile]:
    """Return every file of the console by its path below `/console`, without digests in names."""
    files = {name: file_of(name, content) for name, content in sources().items()}
    icon = f"/console/{hashed(ICON, files[ICON])}"
    styles = b"".join(sources()[f"styles/{name}.css"] for name in STYLE_ORDER)
    files[STYLES] = file_of(STYLES, styles)
    files[SCRIPT] = file_of(SCRIPT, bundle().text.replace(f"/console/{ICON}", icon).encode())
    page = sources()[INDEX].decode()
    for name in (FIRST, SCRIPT, STYLES, ICON):
        page = page.replace(f"/console/{name}", f"/console/{hashed(name, files[name])}")
    files[INDEX] = file_of(INDEX, page.encode())
    return files


@cache
def map_file() -> ConsoleFile:
    """Return the source map, which only a browser's developer tools request."""
    return file_of(MAP, source_map(bundle()).encode())


def hashed(name: str, file: ConsoleFile) -> str:
    """Return the name of a file with its digest."""
    stem, _, ending = name.partition(".")
    return f"{stem}.{file.digest[:16]}.{ending}"


def prepare() -> None:
    """Build and compress the files that every first visit needs."""
    for name in (INDEX, FIRST, SCRIPT, STYLES):
        _ = console_files()[name].packed
