"""Fetch the scripts and styles of /docs and /redoc: `python -m scripts.vendor_api_docs` (needs npm).

Each package is pinned by version and by the digest of its archive. The files go to `app/static/api_docs`, with the
licenses of the packages and `SHA256SUMS`, to which a test holds them. To update: change `PACKAGES`, run this, try both
pages, commit what changed.
"""

from pathlib import Path

from scripts.npm_packages import Package, vendor

TARGET = Path(__file__).parents[1] / "app" / "static" / "api_docs"

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


if __name__ == "__main__":
    vendor(PACKAGES, TARGET)
