"""Places at which a test can make a process fail: `FAILPOINTS=before-commit:kill`, several separated by commas.

`kill` ends the process as SIGKILL does, `raise` raises, `pause` stops the process as SIGSTOP does; a number after it
(`before-commit:kill:3`) says at which time of passing. Without the variable a place costs one call of nothing.
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
    "before-tool-call",
    "after-tool-call",
    "before-commit",
    "after-commit",
    "after-end",
)


class FailpointReached(Exception):
    """The process was told to fail here."""


def act(name: str, action: str) -> None:
    """Do what a failpoint says."""
    if action == "raise":
        raise FailpointReached(name)
    os.kill(os.getpid(), signal.SIGSTOP if action == "pause" else signal.SIGKILL)


def nothing(_: str) -> None:
    """Fail nowhere."""


def armed(text: str) -> Callable[[str], None]:
    """What is to happen at each place, by the variable's text."""
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
