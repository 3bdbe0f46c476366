"""Write the descriptions of the API into a folder: `openapi.json` and `asyncapi.json`, for linters and generators.

`python -m scripts.export_descriptions DIRECTORY`; then, with Node: `npx @stoplight/spectral-cli lint DIRECTORY/*.json`
in the root of the project, and `npx @redocly/cli lint --extends=recommended DIRECTORY/openapi.json`.
"""

import json
import sys
from pathlib import Path

from app.main import create_app
from app.routers.docs.async_api import async_api
from app.settings import Settings


def main() -> None:
    """Write both files."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    settings = Settings(_env_file=None)  # pyright: ignore[reportCallIssue] - pydantic-settings' own
    for name, document in {"openapi": create_app(settings).openapi(), "asyncapi": async_api()}.items():
        (directory / f"{name}.json").write_text(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
