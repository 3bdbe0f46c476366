"""`dynamic-agents demo`: the complete service on this machine, running one department on a sample request."""

import asyncio
import sys

from rich.console import Console
from rich.text import Text

from app.cli.client import service_client
from app.cli.run_following import program, start, watch
from app.server.server import RunningServer, running_server
from app.settings import CATALOG_MODELS, Settings

CONFIGURED = (
    *("mongodb_uri", "redis_url", "models_config", "mcp_servers", "admin_api_key"),
    *("anthropic_api_key", "openai_api_key", "gemini_api_key"),
    *("anthropic_api_base", "openai_api_base", "gemini_api_base"),
    *("simple_model", "standard_model", "complex_model"),
)
"""Settings that the demo resets to their defaults."""
SAMPLE_DEPARTMENT = "story"
SAMPLE_PROJECT = "66f0a1b2c3d4e5f601234567"
SAMPLE_PROMPT = (
    "A lighthouse keeper on a dying coast discovers that the light has been guiding something other than ships. "
    "Develop a 100-page feature: beats, key scenes, dialogue sample and pacing."
)


def demo_settings(settings: Settings) -> Settings:
    """Return settings with everything embedded, the demo model and a database of the demo's own.

    Variables of the environment that name databases, providers or models have no effect.
    """
    nothing_configured = {name: Settings.model_fields[name].default for name in CONFIGURED}
    return settings.model_copy(
        update={
            **nothing_configured,
            "data_dir": settings.data_dir / "demo",
            "seed_on_start": True,
            "allowed_models": CATALOG_MODELS,
            "host": "127.0.0.1",
            "port": 0,
        }
    )


async def run_demo(settings: Settings, console: Console) -> bool:
    """Start the service, run the Story department over HTTP and a WebSocket, and return whether it completed.

    On a terminal, it then prints a link to the run in the console, and ends when the person presses Enter.

    Raises:
        StartupError: the service cannot start.
    """
    console.print("Starting a MongoDB replica set, seeding six departments, starting the service …")
    settings = demo_settings(settings)
    async with running_server(settings) as server:
        key = server.admin_key.text
        console.print(f"Serving on {server.url}, database in {settings.data_dir / 'mongo'}.")
        console.print(Text(f"\nThe Story department is asked:\n{SAMPLE_PROMPT}\n", style="bold"))
        async with service_client(server.url, key) as client:
            body = {"prompt": SAMPLE_PROMPT, "project": SAMPLE_PROJECT}
            execution_id = await start(client, console, "department", SAMPLE_DEPARTMENT, body)
            completed = await watch(client, console, execution_id)
        console.print(
            "\nThe answers came from the offline demo model, so nothing is billed: the costs are its list price. "
            "Next: 'make serve', and MODELS_CONFIG or a provider key for real models."
        )
        await offer_console(console, server, settings, execution_id)
    return completed


async def offer_console(console: Console, server: RunningServer, settings: Settings, execution_id: str) -> None:
    """Print a link to the run in the console; without a terminal, print how to open it after another start."""
    page = f"/runs/{execution_id}"
    if not (console.is_terminal and sys.stdin.isatty()):
        line = f"The run in the console: DATA_DIR={settings.data_dir} {program()} serve, then open {page}"
        console.print(line, soft_wrap=True, markup=False)
        return
    link = f"{server.url}{page}#sign-in={server.sign_in_code.create()}"
    console.print(f"\nThe run in the console: {link}\nPress Enter to end the demo.", soft_wrap=True, markup=False)
    await key_press()


async def key_press() -> None:
    """Wait until the person presses Enter, and consume the line."""
    loop, pressed = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sys.stdin, pressed.set)
    try:
        await pressed.wait()
        sys.stdin.readline()
    finally:
        loop.remove_reader(sys.stdin)
