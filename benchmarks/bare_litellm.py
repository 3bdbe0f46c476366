"""The baseline of the comparison: an endpoint around two bare LiteLLM calls, without storage or tools.

The two requests are those that the service sent in a run, read from `REQUESTS_FILE`; the Router is built from the same
`MODELS_CONFIG`. Run it as `python -m benchmarks.bare_litellm` with `PORT` set.
"""

import json
import os
from pathlib import Path
from typing import Any

import litellm as untyped_litellm
import uvicorn
from fastapi import FastAPI

Json = dict[str, Any]
litellm: Any = untyped_litellm


def create_app(config: Json, requests: list[Json]) -> FastAPI:
    """The two endpoints: through LiteLLM's Router, and through its plain function."""
    app = FastAPI()
    entry = config["model_list"][0]
    router: Any = litellm.Router(model_list=config["model_list"], **config["router_settings"])
    calls = [{"messages": request["messages"], "tools": request["tools"]} for request in requests]

    @app.get("/healthz")
    async def get_health() -> Json:  # pyright: ignore[reportUnusedFunction] - FastAPI has it
        return {"status": "ok"}

    @app.post("/router")
    async def run_router(body: Json) -> Json:  # pyright: ignore[reportUnusedFunction] - FastAPI has it
        answers = [await router.acompletion(model=entry["model_name"], **call) for call in calls]
        return {"prompt": body["prompt"], "text": answers[-1].choices[0].message.content}

    @app.post("/plain")
    async def run_plain(body: Json) -> Json:  # pyright: ignore[reportUnusedFunction] - FastAPI has it
        answers = [await litellm.acompletion(**entry["litellm_params"], **call) for call in calls]
        return {"prompt": body["prompt"], "text": answers[-1].choices[0].message.content}

    return app


def main() -> None:
    """Serve until the process is ended."""
    config, requests = (
        json.loads(Path(os.environ[name]).read_text(encoding="utf-8")) for name in ("MODELS_CONFIG", "REQUESTS_FILE")
    )
    port = int(os.environ["PORT"])
    uvicorn.run(create_app(config, requests), host="127.0.0.1", port=port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()
