"""Check the types of the console and of the API client, which are JSDoc: `python -m scripts.check_console`.

TypeScript is fetched once by npm, pinned by version and digest, into the virtual environment. Node and npm are those of
the machine, else those of the wheel that pyright uses. Nothing of it is needed to run or install the service.
"""

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from scripts.npm_packages import Package, fetch, node

ROOT = Path(__file__).parents[1]
VENDORED = "app/console/vendor/"
TYPESCRIPT = Package(
    "typescript",
    "5.9.3",
    "jl1vZzPDinLr9eUt3J/t7V6FgNEw9QjvBPdysz9KfQDD41fQrC2Y4vKQdiaUpFT4bXlb1RHhLpp8wtm6M5TgSw==",
    {},
)


def compiler() -> Path:
    """The TypeScript compiler, fetched if the virtual environment does not have it yet."""
    target = Path(sys.prefix) / "share" / f"typescript-{TYPESCRIPT.version}"
    if not target.exists():
        with tempfile.TemporaryDirectory(dir=Path(sys.prefix)) as directory:
            archive = fetch(TYPESCRIPT, Path(directory))
            with tarfile.open(archive) as opened:
                opened.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.3 and older have none
                opened.extractall(directory)  # noqa: S202 - the archive has the digest that is pinned above
            target.parent.mkdir(exist_ok=True)
            (Path(directory) / "package").rename(target)
    return target / "lib" / "tsc.js"


def main() -> None:
    """Print the errors in our own files, and exit with 1 if there are any."""
    command = (node(), str(compiler()), "--project", str(ROOT / "jsconfig.json"), "--pretty", "false")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    errors = [line for line in done.stdout.splitlines() if ": error TS" in line and not line.startswith(VENDORED)]
    print("\n".join(errors) or "The types of the console fit.")
    if errors or done.stderr:
        sys.exit(done.stderr or 1)


if __name__ == "__main__":
    main()
