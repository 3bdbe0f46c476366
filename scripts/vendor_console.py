"""Fetch the libraries of the console, and copy the API client into it: `python -m scripts.vendor_console` (needs npm).

Each package is pinned by version and by the digest of its archive. The files go to `app/console/vendor`, with the
licenses of the packages and `SHA256SUMS`, to which a test holds them; imports by package name become relative ones,
because a browser cannot resolve names without an inline import map. To update: change `PACKAGES`, run this, run the
console's tests, commit what changed. `--client` only copies `clients/typescript/src` to `app/console/client`.
"""

import shutil
import sys
from pathlib import Path

from scripts.npm_packages import Package, vendor

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "app" / "console" / "vendor"
CLIENT = ROOT / "clients" / "typescript" / "src"
CLIENT_COPY = ROOT / "app" / "console" / "client"
RELATIVE = (
    (b'from"preact/hooks"', b'from"./preact-hooks.js"'),
    (b'from"preact"', b'from"./preact.js"'),
    (b'from"@preact/signals-core"', b'from"./signals-core.js"'),
)
MAPS = ("preact.mjs", "hooks.mjs", "signals-core.mjs", "signals.mjs", "marked.esm.js", "purify.min.js")
WITHOUT_MAPS = tuple((f"//# sourceMappingURL={name}.map".encode(), b"") for name in MAPS)
PACKAGES = (
    Package(
        "preact",
        "11.2.0",
        "/HfHI/7N84e6GrWBJ3J280z3mLaRJiDcSvj/A+y/4AbLnND/1UlGHe1sR6oYuTGwId0nP7dqDU9OnLxMPZ7xBg==",
        {
            "dist/preact.mjs": "preact.js",
            "hooks/dist/hooks.mjs": "preact-hooks.js",
            "LICENSE": "preact.LICENSE.txt",
        },
        (*RELATIVE, *WITHOUT_MAPS),
    ),
    Package(
        "@preact/signals-core",
        "1.14.5",
        "vcRv7Ityz5JVmeiVqIluLFzT/PDS/AlhHUpw3/aUWqcVUs6bDGIPXE/6RSC4evBNWYvnniozg5Syfj33al3gkg==",
        {"dist/signals-core.mjs": "signals-core.js", "LICENSE": "signals-core.LICENSE.txt"},
        WITHOUT_MAPS,
    ),
    Package(
        "@preact/signals",
        "2.11.4",
        "Rb+5RPo9gWSaHtzJeauhHxiC8KP/IF2DEPkHPEOGOnuy2wnJzRqyeLRankUCYd6ADqtxS6GnWGv6Ie343d8aYw==",
        {"dist/signals.mjs": "signals.js", "LICENSE": "signals.LICENSE.txt"},
        (*RELATIVE, *WITHOUT_MAPS),
    ),
    Package(
        "htm",
        "3.1.1",
        "983Vyg8NwUE7JkZ6NmOqpCZ+sh1bKv2iYTlUkzlWmA5JD2acKoxd4KVxbMmxX/85mtfdnDmTFoNKcg5DGAvxNQ==",
        {"dist/htm.mjs": "htm.js", "LICENSE": "htm.LICENSE.txt"},
    ),
    Package(
        "marked",
        "18.2.1",
        "ii4bxCTCqqwpT86XZWgJNs+ZnAIZksmLGYMViWA7PDIXYIeNo1x6cDdX3JOip9NM/cI6p8z57FxliACboTruMA==",
        {"lib/marked.esm.js": "marked.js", "LICENSE": "marked.LICENSE.txt"},
        WITHOUT_MAPS,
    ),
    Package(
        "dompurify",
        "3.5.0",
        "LYC0ZkE8P1V42JsRYTwMdme/2ET8SpOc5AA2eOFjP/IadvRd2fwiT4TVz5vkfy0XUx12aS2UaRkTnfVPNOv9vw==",
        {"dist/purify.min.js": "dompurify.js", "LICENSE": "dompurify.LICENSE.txt"},
        WITHOUT_MAPS,
    ),
)


def copy_client() -> None:
    """Copy the API client into the console."""
    shutil.rmtree(CLIENT_COPY, ignore_errors=True)
    CLIENT_COPY.mkdir(parents=True)
    for source in sorted(CLIENT.glob("*.*s")):
        shutil.copyfile(source, CLIENT_COPY / source.name)


if __name__ == "__main__":
    if "--client" not in sys.argv[1:]:
        vendor(PACKAGES, TARGET)
    copy_client()
