"""The file that `MCP_SERVERS` names: the servers, and how each is started or reached."""

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, cast

import structlog
import yaml
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel

from app.errors import StartupError
from app.kit.files import why_unreadable

Transport = Literal["stdio", "http", "sse"]

SERVER_NAME = re.compile(r"[A-Za-z0-9-]+(_[A-Za-z0-9-]+)*")
VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
MAX_TIMEOUT_SECONDS = 3600
TRANSPORTS: dict[str, Transport] = {
    "stdio": "stdio",
    "http": "http",
    "streamable-http": "http",
    "streamable_http": "http",
    "streamableHttp": "http",
    "sse": "sse",
}
# Names of the same settings in other programs that are too different to be suggested by spelling.
OTHER_NAMES = {
    "cmd": "command",
    "environment": "env",
    "workingDirectory": "cwd",
    "httpUrl": "url",
    "serverUrl": "url",
    "transport": "type",
    "enabled": "disabled",
    "isActive": "disabled",
    "includeTools": "allowedTools",
    "enabled_tools": "allowedTools",
    "tools": "allowedTools",
    "tool_timeout_sec": "timeout",
    "startup_timeout_sec": "startupTimeout",
    "initTimeout": "startupTimeout",
    "auth": "oauth",
}

log = structlog.get_logger(__name__)


class OAuthSettings(BaseModel):
    """Client credentials (RFC 6749, section 4.4); they are sent only to the authorization server `issuer`."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True)

    client_id: str
    client_secret: SecretStr
    issuer: str = Field(pattern=r"^https?://")
    scope: str | None = None


class McpServerSettings(BaseModel):
    """One server in the usual form: a command to start, or a URL. Time-outs are in seconds."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="ignore", frozen=True, coerce_numbers_to_str=True
    )

    type: Transport | None = None
    command: str | None = None
    args: list[str] = Field(default_factory=list)
    env: dict[str, str] = Field(default_factory=dict)
    cwd: str | None = None
    url: str | None = Field(default=None, pattern=r"^https?://")
    headers: dict[str, str] = Field(default_factory=dict)
    oauth: OAuthSettings | None = None
    timeout: float | None = Field(default=None, gt=0, le=MAX_TIMEOUT_SECONDS)
    startup_timeout: float | None = Field(default=None, gt=0, le=MAX_TIMEOUT_SECONDS)
    allowed_tools: list[str] | None = None
    disabled: bool = False
    trace_context: bool = False
    """Whether calls carry the trace that they belong to, so that the server can continue it."""

    @field_validator("type", mode="before")
    @classmethod
    def usual_transport(cls, value: object) -> object:
        """Return the transport for a name that other programs use."""
        return TRANSPORTS.get(value, value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def names_one(self) -> "McpServerSettings":
        """Check that a server has either a command or a URL, as its transport requires."""
        if self.disabled:
            return self
        if (self.command is None) == (self.url is None):
            raise ValueError("must have either a command or a url")
        if self.type is not None and (self.type == "stdio") != (self.command is not None):
            raise ValueError(f"type {self.type!r} needs a {'command' if self.type == 'stdio' else 'url'}")
        if self.oauth is not None and self.url is None:
            raise ValueError("oauth needs a url")
        return self

    @property
    def transport(self) -> Transport | None:
        """The transport of the server; unknown if the server is disabled, because its entry is not parsed."""
        if self.disabled:
            return None
        return self.type or ("stdio" if self.command is not None else "http")

    def allows(self, tool: str) -> bool:
        """Return whether agents may use a tool of the server."""
        return self.allowed_tools is None or any(fnmatchcase(tool, pattern) for pattern in self.allowed_tools)


def load_mcp_servers(path: Path | None) -> dict[str, McpServerSettings]:
    """Return the servers that a file names under `mcpServers`.

    In a value, `${NAME}` is replaced with an environment variable, and `${NAME:-default}` with its default if the
    variable is unset or empty. Unknown keys are logged as warnings.

    Raises:
        StartupError: the file is missing or invalid; the message contains none of its values.
    """
    if path is None:
        return {}
    servers = read_entries(path)
    found: dict[str, McpServerSettings] = {}
    for name, entry in servers.items():
        if not SERVER_NAME.fullmatch(name):
            message = f"MCP_SERVERS is invalid: the name {name!r} must consist of letters, digits, '-' and single '_'."
            raise StartupError(message)
        found[name] = server_settings(path, name, entry)
        warn_of_unread_keys(name, entry)
    return found


def read_entries(path: Path) -> dict[str, Any]:
    """Return the entries of the file, by the names of their servers."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise StartupError(f"MCP_SERVERS is invalid: {path} cannot be read ({why_unreadable(error)}).") from None
    except yaml.YAMLError:
        raise StartupError(f"MCP_SERVERS is invalid: {path} is not YAML or JSON with an object mcpServers.") from None
    if not isinstance(content, dict) or not isinstance(entries_of(content), dict):
        raise StartupError(f"MCP_SERVERS is invalid: {path} must contain an object mcpServers.")
    for key in (str(item) for item in cast("dict[object, object]", content) if item != "mcpServers"):
        log.warning("mcp-setting-unknown", setting=key, advice="List servers under mcpServers.")
    return {str(name): entry for name, entry in entries_of(content).items()}


def entries_of(content: Any) -> Any:  # noqa: ANN401 - any YAML value
    """Return the value of `mcpServers`."""
    return content.get("mcpServers")


def server_settings(path: Path, name: str, entry: object) -> McpServerSettings:
    """Return the settings in one entry; the rest of a disabled entry is not checked."""
    where = f"MCP_SERVERS is invalid: {path}: the server {name!r}"
    if not isinstance(entry, dict):
        raise StartupError(f"{where} must have either a command or a url.")
    given = cast("dict[str, Any]", entry)
    try:
        disabled = McpServerSettings.model_validate({"disabled": filled(given.get("disabled", False)), "command": "-"})
        return (
            McpServerSettings(disabled=True) if disabled.disabled else McpServerSettings.model_validate(filled(given))
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise StartupError(f"{where}: {place}{': ' if place else ''}{first['msg']}.") from None


def warn_of_unread_keys(name: str, entry: Mapping[str, Any]) -> None:
    """Warn about each unknown key, with the most similar known one."""
    oauth: Any = entry.get("oauth")
    sections: list[tuple[str, Mapping[str, Any], type[BaseModel]]] = [("", entry, McpServerSettings)]
    if isinstance(oauth, dict):
        sections.append(("oauth.", cast("dict[str, Any]", oauth), OAuthSettings))
    for prefix, section, model in sections:
        known = [field.alias or key for key, field in model.model_fields.items()]
        for key in (str(item) for item in section if item not in known and item not in model.model_fields):
            advice = f"Did you mean {prefix}{likely}?" if (likely := likely_key(key, known)) else "It is ignored."
            log.warning("mcp-setting-unknown", server=name, setting=f"{prefix}{key}", advice=advice)


def likely_key(key: str, known: Iterable[str]) -> str | None:
    """Return the most similar known key."""
    if key in OTHER_NAMES:
        return OTHER_NAMES[key]
    by_letters = {item.lower(): item for item in known}
    close = difflib.get_close_matches(key.lower().replace("_", "").replace("-", ""), by_letters, n=1, cutoff=0.6)
    return by_letters[close[0]] if close else None


def filled(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return the value with environment variables replaced in its texts.

    Raises:
        StartupError: a variable is not set, and has no default.
    """
    if isinstance(value, str):
        return VARIABLE.sub(variable, value)
    if isinstance(value, dict):
        return {key: filled(item) for key, item in cast("dict[str, Any]", value).items()}
    return [filled(item) for item in cast("list[Any]", value)] if isinstance(value, list) else value


def variable(found: re.Match[str]) -> str:
    """Return the value of a variable; as in a shell, an empty variable has its default too."""
    name, default = found.groups()
    value = os.environ.get(name)
    if default is not None:
        return value or default
    if value is None:
        raise StartupError(
            f"MCP_SERVERS is invalid: the variable {name} is not set. Set it, or write ${{{name}:-default}}."
        )
    return value
