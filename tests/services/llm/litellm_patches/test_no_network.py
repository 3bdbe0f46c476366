"""The service contacts no server by itself: no price list, no telemetry, no update check."""

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[4]
PROGRAM = """
import asyncio, json, socket, sys

ATTEMPTS = []
LOOPBACK = ("127.", "localhost", "::1")

def watched(name, original):
    def wrapper(*arguments, **named):
        address = arguments[1] if isinstance(arguments[0], socket.socket) else arguments[0]
        host = address[0] if isinstance(address, tuple) else address
        if host and not str(host).startswith(LOOPBACK):
            ATTEMPTS.append([name, str(host)])
            raise OSError("no network in this test")
        return original(*arguments, **named)
    return wrapper

for name in ("connect", "connect_ex", "sendto"):
    setattr(socket.socket, name, watched(name, getattr(socket.socket, name)))
for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "create_connection"):
    setattr(socket, name, watched(name, getattr(socket, name)))

import app.main
from app.demo.provider import register_demo_provider
from app.services.llm.calls import ModelRequest, RunPurpose
from app.services.llm.gateway import ModelGateway
from app.services.llm.model_info.model_table import load_model_table
from app.settings import Settings

async def main():
    register_demo_provider()
    gateway = ModelGateway(load_model_table(Settings()))
    request = ModelRequest("openai/gpt-4", [{"role": "user", "content": "Hello"}], RunPurpose.WORK, "exec_1")
    answer = await gateway.complete(request)
    await asyncio.sleep(0.2)  # what LiteLLM does after a call, it does in tasks of its own
    await gateway.close()
    return answer

answer = asyncio.run(main())
try:
    socket.create_connection(("192.0.2.1", 80), timeout=0.1)
except OSError:
    pass
print(json.dumps({"attempts": ATTEMPTS, "model": answer.model, "text": bool(answer.text)}))
"""


@pytest.mark.slow
async def test_importing_the_service_and_calling_a_model_touches_no_network(tmp_path: Path) -> None:
    environment = {"PATH": os.defpath, "HOME": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        PROGRAM,
        cwd=tmp_path,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        printed, errors = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert process.returncode == 0, errors.decode()
    report = json.loads(printed.splitlines()[-1])
    assert (report["model"], report["text"]) == ("demo", True)
    assert report["attempts"] == [["create_connection", "192.0.2.1"]], "all but the last, which shows that we watch"
