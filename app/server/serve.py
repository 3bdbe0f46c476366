"""`dynamic-agents serve` and `worker`: the service, and a process that only runs, until they are stopped."""

from app.server.console import run_console
from app.server.server import leave_on_signals, running_server, stop_on_signals
from app.services.access.admin_key import AdminKey
from app.settings import Settings


async def serve_until_stopped(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C; short work then ends, and the rest is handed over.

    Raises:
        StartupError: the service cannot start.
    """
    console = run_console()
    leave_on_signals()
    async with running_server(settings) as running:
        stop_on_signals(running, console.print)
        console.print(f"API description: {running.url}/docs")
        if line := told_of(running.admin_key):
            console.print(line, soft_wrap=True, markup=False)
        console.print(f"Dynamic Agents serves on {running.url}")
        await running.wait()


def told_of(admin_key: AdminKey) -> str | None:
    """What is said of the bootstrap admin key: its text by the start that made it, later where it is."""
    if admin_key.is_new:
        return f"Admin key, shown this once: {admin_key.text} (kept in {admin_key.path})"
    if admin_key.path:
        return f"The admin key is kept in {admin_key.path}"
    if admin_key.text:
        return None
    return "No bootstrap admin key: make one with 'dynamic-agents keys create', or set ADMIN_API_KEY."


async def work_until_stopped(settings: Settings) -> None:
    """Run what other processes accept, until SIGTERM or Ctrl-C; short work then ends, and the rest is handed over.

    Raises:
        StartupError: the worker cannot start.
    """
    leave_on_signals()
    async with running_server(settings, is_worker=True) as running:
        stop_on_signals(running, run_console().print)
        run_console().print(f"Dynamic Agents worker; its state is at {running.url}/readyz")
        await running.wait()
