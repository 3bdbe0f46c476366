"""`dynamic-agents serve` and `worker`: the service, and a process that only executes runs, until they are stopped."""

from app.server.console import run_console
from app.server.server import RunningServer, leave_on_signals, running_server, stop_on_signals
from app.services.access.admin_key import AdminKey
from app.settings import Settings


async def serve_until_stopped(settings: Settings) -> None:
    """Serve until SIGTERM or Ctrl-C; short runs then finish, and other processes take over the rest.

    Raises:
        StartupError: the service cannot start.
    """
    console = run_console()
    leave_on_signals()
    async with running_server(settings) as running:
        stop_on_signals(running, console.print)
        console.print(f"API description: {running.url}/docs")
        if settings.console:
            console.print(console_notice(running), soft_wrap=True, markup=False)
        if line := admin_key_notice(running.admin_key):
            console.print(line, soft_wrap=True, markup=False)
        console.print(f"Dynamic Agents serves on {running.url}")
        await running.wait()


def console_notice(running: RunningServer) -> str:
    """Return the line about the console: on this machine alone, its link signs one browser in."""
    if running.is_local and (code := running.sign_in_code.create()):
        return f"Console: {running.url}/#sign-in={code} (signs in once, within ten minutes)"
    return f"Console: {running.url}/ (sign in with an API key)"


def admin_key_notice(admin_key: AdminKey) -> str | None:
    """Return the line about the bootstrap admin key: the key if this start created it, later only its file."""
    if admin_key.is_new:
        return f"Admin key, shown only once: {admin_key.text} (stored in {admin_key.path})"
    if admin_key.path:
        return f"The admin key is stored in {admin_key.path}"
    if admin_key.text:
        return None
    return "No bootstrap admin key: create a key with 'dynamic-agents keys create', or set ADMIN_API_KEY."


async def work_until_stopped(settings: Settings) -> None:
    """Execute runs that other processes accept, until SIGTERM or Ctrl-C.

    Short runs then finish, and other processes take over the rest.

    Raises:
        StartupError: the worker cannot start.
    """
    leave_on_signals()
    async with running_server(settings, is_worker=True) as running:
        stop_on_signals(running, run_console().print)
        run_console().print(f"Dynamic Agents worker; its state is at {running.url}/readyz")
        await running.wait()
