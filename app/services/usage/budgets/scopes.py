"""The scopes of budgets: everything, a project, a department, an agent or an API key."""

import re
from dataclasses import dataclass

from app.errors import InvalidInput

GLOBAL = "global"
KINDS = ("project", "department", "agent", "key")
MAX_ID_CHARACTERS = 200
PROJECT_ID = re.compile(r"[0-9a-f]{24}")
FORM = "`global`, `project:ID`, `department:SLUG`, `agent:AGENT_ID` or `key:KEY_ID`"


def parse_scope(text: str) -> str:
    """Return the scope that a text names, with a project's id in lower case.

    Raises:
        InvalidInput: it is not a scope.
    """
    kind, colon, identity = text.partition(":")
    if text == GLOBAL:
        return text
    if kind not in KINDS or not colon:
        raise InvalidInput.of_field("scope", f"must be {FORM}")
    if not identity or len(identity) > MAX_ID_CHARACTERS or not identity.isprintable() or identity.strip() != identity:
        raise InvalidInput.of_field("scope", f"must name the {kind} by its id, such as `{kind}:ID`")
    if kind == "project":
        identity = identity.lower()
        if not PROJECT_ID.fullmatch(identity):
            raise InvalidInput.of_field("scope", "must name the project by its 24-character hexadecimal id")
    return f"{kind}:{identity}"


@dataclass(frozen=True, slots=True)
class CallScopes:
    """The owners of a model call or a new run; `None` if it has no such owner."""

    agent: str | None = None
    department: str | None = None
    project: str | None = None
    api_key: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The scopes from narrow to wide: every process reserves in this order."""
        narrow = (("agent", self.agent), ("department", self.department), ("project", self.project))
        named = [f"{kind}:{identity}" for kind, identity in (*narrow, ("key", self.api_key)) if identity]
        return (*(name.lower() if name.startswith("project:") else name for name in named), GLOBAL)
