"""Fetch the scripts and styles of /docs and /redoc: `python -m scripts.vendor_api_docs` (needs npm).

Each package is pinned by version and by the digest of its archive. The files go to `app/static/api_docs`, with the
licenses of the packages and `SHA256SUMS`, to which a test holds them. To update: change `PACKAGES`, run this, try both
pages, commit what changed.
"""

import base64
import hashlib
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

TARGET = Path(__file__).parents[1] / "app" / "static" / "api_docs"


@dataclass(frozen=True)
class Package:
    """An npm package, and what is taken of it: the path in its archive to the name here."""

    name: str
    version: str
    sha512: str
    files: dict[str, str]
    replaced: tuple[tuple[bytes, bytes], ...] = ()
    """Texts of its scripts that are replaced, because they name another host."""


PACKAGES = (
    Package(
        "swagger-ui-dist",
        "5.35.0",
        "U06rpMtW9V3XPGOBeamTUSr0Z09jMX4IJuANpE/EZbAhw0G8CgwrzU4YmXkn/h0wCDNsXdGarTNNHC3sU8yVUQ==",
        {
            "swagger-ui-bundle.js": "swagger-ui-bundle.js",
            "swagger-ui.css": "swagger-ui.css",
            "LICENSE": "swagger-ui.LICENSE.txt",
            "NOTICE": "swagger-ui.NOTICE.txt",
            "swagger-ui-bundle.js.LICENSE.txt": "swagger-ui-bundle.js.LICENSE.txt",
        },
    ),
    Package(
        "redoc",
        "2.5.4",
        "M6jWhG1qoBnH6TFmzJnstyCZ87HmOY/UzDm78mHiYihEdlV/YcS9ogOo1NlElnJMeLsyxHFe2yFc4sNjHTrABQ==",
        {
            "bundles/redoc.standalone.js": "redoc.standalone.js",
            "LICENSE": "redoc.LICENSE.txt",
            "bundles/redoc.standalone.js.LICENSE.txt": "redoc.standalone.js.LICENSE.txt",
        },
        ((b"https://cdn.redoc.ly/redoc/logo-mini.svg", b"data:,"),),
    ),
)


def fetch(package: Package, directory: Path) -> Path:
    """The archive of a package, by npm, whose digest is checked."""
    npm = shutil.which("npm")
    if npm is None:
        sys.exit("npm is needed: it fetches the packages.")
    specifier = f"{package.name}@{package.version}"
    command = (npm, "pack", "--silent", "--pack-destination", str(directory), specifier)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    archive = directory / f"{package.name}-{package.version}.tgz"
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if digest != package.sha512:
        sys.exit(f"{specifier} has the digest {digest}, not the one in this file.")
    return archive


def unpack(package: Package, archive: Path) -> None:
    """Write the files of a package."""
    with tarfile.open(archive) as opened:
        for path, name in package.files.items():
            member = opened.extractfile(f"package/{path}")
            assert member is not None  # noqa: S101 - a file, not a directory
            content = member.read().rstrip() + b"\n"
            for before, after in package.replaced:
                content = content.replace(before, after)
            (TARGET / name).write_bytes(content)


def main() -> None:
    """Fetch all packages again."""
    TARGET.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        for package in PACKAGES:
            unpack(package, fetch(package, Path(directory)))
    names = sorted(name for package in PACKAGES for name in package.files.values())
    sums = [f"{hashlib.sha256((TARGET / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (TARGET / "SHA256SUMS").write_text("".join(sums))


if __name__ == "__main__":
    main()
