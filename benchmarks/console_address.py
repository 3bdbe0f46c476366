"""The demo's service with one run: prints a link that opens it in the console, once, and serves until it is ended."""

import asyncio
import tempfile
from pathlib import Path

import httpx

from app.cli.demo import SAMPLE_DEPARTMENT, SAMPLE_PROJECT, SAMPLE_PROMPT, demo_settings
from app.server.server import running_server
from app.settings import Settings


async def serve() -> None:
    """Serve until the process is ended."""
    with tempfile.TemporaryDirectory() as directory:
        settings = demo_settings(Settings.load(data_dir=Path(directory)))
        async with running_server(settings) as server:
            headers = {"Authorization": f"Bearer {server.admin_key.text}", "Prefer": "wait=60"}
            async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=90) as http:
                body = {"prompt": SAMPLE_PROMPT, "project": SAMPLE_PROJECT}
                run = await http.post(f"/api/v1/departments/{SAMPLE_DEPARTMENT}/runs", json=body)
            path = f"/runs/{run.raise_for_status().json()['executionId']}"
            print(f"{server.url}{path}#sign-in={server.sign_in_code.create()}", flush=True)
            await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve())
