"""Places where a test can make a process fail: `FAILPOINTS=before-commit:kill`, several separated by commas.

`kill` sends SIGKILL, `raise` raises an exception, `pause` sends SIGSTOP. A number (`before-commit:kill:3`) selects the
pass that fails. Without the variable a place costs one empty call.
"""

import os
import signal
from collections import Counter
from collections.abc import Callable

VARIABLE = "FAILPOINTS"
PLACES = (
    "before-insert",
    "after-insert",
    "after-claim",
    "before-first-event",
    "before-model-call",
    "after-model-call",
    "after-decision",
    "before-tool-call",
    "after-tool-call",
    "before-commit",
    "after-commit",
    "after-end",
    "before-outbox-commit",
    "after-outbox-commit",
    "after-outbox-removal",
    "before-audit-append",
    "after-audit-append",
)


class FailpointReached(Exception):
    """A failpoint with the action `raise` was reached."""


def act(name: str, action: str) -> None:
    """Run the action of a failpoint."""
    if action == "raise":
        raise FailpointReached(name)
    os.kill(os.getpid(), signal.SIGSTOP if action == "pause" else signal.SIGKILL)


def nothing(_: str) -> None:
    """Pass a failpoint when none is set."""


def armed(text: str) -> Callable[[str], None]:
    """Return the function that runs the actions in the text of the variable."""
    if not text:
        return nothing
    plan: dict[str, tuple[str, int]] = {}
    for entry in text.split(","):
        name, action, *times = entry.strip().split(":")
        plan[name] = (action, int(times[0]) if times else 1)
    passed = Counter[str]()

    def reach(name: str) -> None:
        passed[name] += 1
        if name in plan and passed[name] == plan[name][1]:
            act(name, plan[name][0])

    return reach


failpoint = armed(os.environ.get(VARIABLE, ""))
