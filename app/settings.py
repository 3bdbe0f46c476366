"""The service's settings: environment variables or `.env`, read once, every wrong value named in one line."""

import os
import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from dotenv import dotenv_values
from limits import parse_many
from pydantic import AfterValidator, Field, HttpUrl, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from redis.asyncio import ConnectionPool
from redis.exceptions import RedisError

from app.errors import StartupError
from app.setting_names import UnknownVariable, unknown_variables

CATALOGUE_MODELS = (
    "anthropic/claude-sonnet-4.5",
    "anthropic/claude-3-opus",
    "anthropic/claude-3-haiku",
    "openai/gpt-4",
    "openai/gpt-4-turbo",
)

MIN_KEY_CHARACTERS = 16
MAX_KEY_CHARACTERS = 512


MIN_SECRET_BYTES = 32
MAX_SECONDS = 31 * 24 * 3600
MAX_WINDOW_SECONDS = 10 * 366 * 24 * 3600
ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?/?")
HOST_NAME = r"(?:\*\.)?[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?"
HOST_VALUE = re.compile(rf"(?:\[(?P<ipv6>[0-9a-f:.]+)\]|(?P<name>{HOST_NAME})\.?)(?::(?P<port>[0-9]{{1,5}}))?")
MAX_HOST_CHARACTERS = 300
LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound
DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def is_rate_limit(value: str) -> str:
    """One or several limits in the syntax of the `limits` library, none of which refuses everything."""
    try:
        limits = parse_many(value)
    except ValueError:
        limits = []
    if not limits or not all(one.amount > 0 and one.get_expiry() <= MAX_WINDOW_SECONDS for one in limits):
        raise ValueError("must be a rate limit such as 600/minute, or several such as 20/second;600/minute")
    return value


def is_redis_url(value: SecretStr) -> SecretStr:
    """An address that the Redis client takes, with all its options."""
    try:
        ConnectionPool.from_url(value.get_secret_value()).make_connection()
    except (ValueError, TypeError, RedisError):
        raise ValueError(
            "must be a Redis address such as redis://HOST:6379/0, or one with rediss:// or unix://"
        ) from None
    return value


def is_token_secret(value: SecretStr) -> SecretStr:
    """A secret that cannot be guessed from a token."""
    if len(value.get_secret_value().encode("utf-8", "replace")) < MIN_SECRET_BYTES:
        raise ValueError(f"must be {MIN_SECRET_BYTES} bytes or more")
    return value


def is_http_address(value: str) -> str:
    """The address of a server on the web."""
    try:
        HttpUrl(value)
    except ValueError:
        raise ValueError("must be an address that begins with https:// or http://") from None
    return value


def is_key_set_address(value: str) -> str:
    """An address whose answer cannot be forged on the way: `https`, or `http` on this machine."""
    try:
        url = HttpUrl(value)
    except ValueError:
        raise ValueError("must be an address that begins with https://") from None
    if url.scheme != "https" and not is_loopback(url.host or ""):
        raise ValueError("must begin with https://; http:// is accepted for this machine only (localhost, 127.0.0.1)")
    return value


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, whatever the network says."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def is_proxy_address(value: str) -> str:
    """An address, or a network of them, that is not everyone's."""
    try:
        network = ip_network(value)
    except ValueError:
        raise ValueError("must be addresses or networks such as 10.0.0.7 or 10.0.0.0/8, separated by commas") from None
    if network.prefixlen == 0:
        raise ValueError("must not contain every address: anyone could forge the address of a request")
    return value


def as_browsers_send_it(value: str) -> str:
    """An origin in the form of the `Origin` header: in lower case, without a slash at its end or the usual port."""
    found = ORIGIN.fullmatch(value.lower())
    if found is None:
        raise ValueError("must be origins such as https://studio.example or http://localhost:3000, separated by commas")
    scheme, host, port = found.groups("")
    return f"{scheme}://{host}{'' if port == DEFAULT_PORTS.get(scheme) else port}"


@dataclass(frozen=True)
class Host:
    """A value of the `Host` header, or what one may be: a name or an address, with a port or for all of them.

    In the settings `*.studio.example` stands for every name below `studio.example`.
    """

    name: str
    port: str | None = None

    @property
    def is_address(self) -> bool:
        """Whether it is an IP address."""
        try:
            ip_address(self.name)
        except ValueError:
            return False
        return True

    def covers(self, other: "Host") -> bool:
        """Whether a request for the other one is for this one."""
        if self.port not in (None, other.port):
            return False
        if self.name.startswith("*."):
            return other.name.endswith(self.name[1:])
        return self.name == other.name


def parse_host(text: str) -> Host | None:
    """The host in a text such as `studio.example:8000` or `[::1]`, `None` when it is not one."""
    found = HOST_VALUE.fullmatch(text.lower()) if len(text) <= MAX_HOST_CHARACTERS else None
    if found is None:
        return None
    if found["ipv6"] is None:
        return Host(found["name"], found["port"])
    try:
        return Host(str(ip_address(found["ipv6"])), found["port"])
    except ValueError:
        return None


def is_host(value: str) -> str:
    """A host in the form of the `Host` header, in lower case."""
    if parse_host(value) is None:
        raise ValueError(
            "must be hosts such as agents.example, agents.example:8000, *.agents.example or [::1], separated by commas"
        )
    return value.lower()


RateLimit = Annotated[str, AfterValidator(is_rate_limit)]
Seconds = Annotated[float, Field(gt=0, le=MAX_SECONDS)]
CommaSeparated = Annotated[tuple[str, ...], NoDecode]
ProxyAddresses = Annotated[tuple[Annotated[str, AfterValidator(is_proxy_address)], ...], NoDecode]
Hosts = Annotated[tuple[Annotated[str, AfterValidator(is_host)], ...], NoDecode]
Origins = Annotated[tuple[Annotated[str, AfterValidator(as_browsers_send_it)], ...], NoDecode]


def is_bootstrap_key(value: SecretStr) -> SecretStr:
    """A key that fits into a request's header, and is long enough not to be guessed."""
    key = value.get_secret_value()
    has_length = MIN_KEY_CHARACTERS <= len(key) <= MAX_KEY_CHARACTERS
    if not (has_length and key.isascii() and key.isprintable() and key == key.strip()):
        raise ValueError(
            f"must be {MIN_KEY_CHARACTERS} to {MAX_KEY_CHARACTERS} printable ASCII characters, with no space before "
            "or behind them"
        )
    return value


class Settings(BaseSettings):
    """One field a variable, named as in the environment; the README's table says what each one means."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    mongodb_uri: SecretStr | None = None
    mongod_binary: str | None = None
    redis_url: Annotated[SecretStr, AfterValidator(is_redis_url)] | None = None
    models_config: Path | None = None
    anthropic_api_key: SecretStr | None = None
    openai_api_key: SecretStr | None = None
    gemini_api_key: SecretStr | None = None
    anthropic_api_base: Annotated[str, AfterValidator(is_http_address)] | None = None
    openai_api_base: Annotated[str, AfterValidator(is_http_address)] | None = None
    gemini_api_base: Annotated[str, AfterValidator(is_http_address)] | None = None
    data_dir: Path = Path(".data")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    admin_api_key: Annotated[SecretStr, AfterValidator(is_bootstrap_key)] | None = None
    jwt_secret: Annotated[SecretStr, AfterValidator(is_token_secret)] | None = None
    jwt_jwks_url: Annotated[str, AfterValidator(is_key_set_address)] | None = None
    jwt_audience: str | None = None
    jwt_issuer: str | None = None
    trusted_proxies: ProxyAddresses = ()
    allowed_hosts: Hosts = ()
    anonymous_role: Literal["none", "viewer"] = "none"
    seed_on_start: bool | None = None
    agent_cache_ttl_seconds: float = Field(default=300, ge=0, le=MAX_SECONDS)
    tool_timeout_seconds: float = Field(default=10, gt=0, le=600)
    tool_memory_mb: int = Field(default=64, ge=8, le=4096)
    tool_result_model_bytes: int = Field(default=32_768, ge=1024, le=16 * 1024**2)
    context_reserve_tokens: int = Field(default=4096, ge=0, le=10_000_000)
    tool_workers: int = Field(default=2, ge=1, le=64)
    tool_egress_allowlist: CommaSeparated = ()
    tool_modules: CommaSeparated = ()
    mcp_servers: Path | None = None
    mcp_start_seconds: float = Field(default=120, gt=0, le=3600)
    allowed_models: CommaSeparated = CATALOGUE_MODELS
    simple_model: str = Field(default="anthropic/claude-3-haiku", min_length=1)
    standard_model: str = Field(default="anthropic/claude-sonnet-4.5", min_length=1)
    complex_model: str = Field(default="anthropic/claude-3-opus", min_length=1)
    allowed_origins: Origins = ()
    run_rate_limit: RateLimit | None = None
    auth_failure_limit: RateLimit = "30/minute"
    max_connections: int = Field(default=4096, ge=16)
    max_streams: int = Field(default=3000, ge=1)
    max_streams_per_key: int = Field(default=1000, ge=1)
    specialist_gate: float = Field(default=0.5, ge=0, le=1)
    department_gate: float = Field(default=0.6, ge=0, le=1)
    orchestrator_gate: float = Field(default=0.75, ge=0, le=1)
    serve_runs: bool = True
    drain_seconds: float = Field(default=0, ge=0, le=600)
    max_concurrent_runs: int = Field(default=64, ge=1)
    max_department_runs: int | None = Field(default=None, ge=1)
    max_run_seconds: Seconds = 3600
    model_first_byte_seconds: Seconds = 60
    model_idle_seconds: Seconds = 30
    model_total_seconds: Seconds = 600
    litellm_patches: Literal["on", "off"] = "on"
    """Whether LiteLLM runs with the patches of `app/services/llm/litellm_patches` that only make it faster."""
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator(
        *("allowed_models", "allowed_origins", "allowed_hosts", "trusted_proxies"),
        *("tool_egress_allowlist", "tool_modules"),
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
        """The settings of this process, with what the command line says on top.

        Raises:
            StartupError: a value is wrong; the message names its variable, never the value.
        """
        try:
            return cls(**{name: value for name, value in overrides.items() if value is not None})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            variable = str(first["loc"][0]).upper() if first["loc"] else "settings"
            message = f"{variable} is wrong: {first['msg'].removeprefix('Value error, ')}."
            raise StartupError(message) from None
        except UnicodeDecodeError:
            raise StartupError("The file .env is not UTF-8 text.") from None

    @classmethod
    def misspelled(cls) -> list[UnknownVariable]:
        """Variables of the environment and of `.env` that look like settings and are not."""
        try:
            in_file = [name for name in dotenv_values(".env") if name]
        except (OSError, UnicodeDecodeError):
            in_file = []
        return unknown_variables([*os.environ, *in_file], cls.model_fields)

    @property
    def complexity_models(self) -> dict[str, str]:
        """The model for each complexity that a run may ask for."""
        return {"simple": self.simple_model, "standard": self.standard_model, "complex": self.complex_model}

    @property
    def answered_hosts(self) -> tuple[Host, ...]:
        """The hosts whose requests are answered: `ALLOWED_HOSTS`, else the loopback names and `HOST`."""
        own = f"[{self.host}]" if ":" in self.host else self.host
        found = map(parse_host, self.allowed_hosts or (*LOOPBACK_NAMES, own))
        return tuple(host for host in found if host is not None)

    @property
    def answers_unnamed_hosts(self) -> bool:
        """Whether the service listens on all addresses, and the names it is reached by are not set."""
        return self.host in WILDCARDS and not self.allowed_hosts

    @property
    def embedded(self) -> bool:
        """Whether the service starts its own `mongod`."""
        return self.mongodb_uri is None

    @property
    def seeds_on_start(self) -> bool:
        """`SEED_ON_START`, whose default depends on whether the database is embedded."""
        return self.embedded if self.seed_on_start is None else self.seed_on_start
