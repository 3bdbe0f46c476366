"""The service's settings: environment variables or `.env`, read once, every wrong value named in one line."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from limits import parse
from pydantic import AfterValidator, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from app.errors import StartupError

CATALOGUE_MODELS = (
    "anthropic/claude-sonnet-4.5",
    "anthropic/claude-3-opus",
    "anthropic/claude-3-haiku",
    "openai/gpt-4",
    "openai/gpt-4-turbo",
)

MAX_KEY_CHARACTERS = 512


def is_rate_limit(value: str) -> str:
    """A limit in the syntax of the `limits` library."""
    try:
        parse(value)
    except ValueError:
        raise ValueError("must be a rate limit such as 600/minute") from None
    return value


RateLimit = Annotated[str, AfterValidator(is_rate_limit)]
CommaSeparated = Annotated[tuple[str, ...], NoDecode]


def is_bootstrap_key(value: SecretStr) -> SecretStr:
    """A key that fits into a request's header."""
    key = value.get_secret_value()
    if not (key.isascii() and key.isprintable() and key == key.strip() and 0 < len(key) <= MAX_KEY_CHARACTERS):
        raise ValueError(
            f"must be at most {MAX_KEY_CHARACTERS} printable ASCII characters, with no space before or behind them"
        )
    return value


class Settings(BaseSettings):
    """One field a variable, named as in the environment; the README's table says what each one means."""

    model_config = SettingsConfigDict(
        env_file=".env", env_ignore_empty=True, extra="ignore", frozen=True, hide_input_in_errors=True
    )

    mongodb_uri: SecretStr | None = None
    mongod_binary: str | None = None
    redis_url: SecretStr | None = None
    models_config: Path | None = None
    anthropic_api_key: SecretStr | None = None
    openai_api_key: SecretStr | None = None
    data_dir: Path = Path(".data")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    admin_api_key: Annotated[SecretStr, AfterValidator(is_bootstrap_key)] | None = None
    jwt_secret: SecretStr | None = None
    jwt_jwks_url: str | None = None
    anonymous_role: Literal["none", "viewer"] = "none"
    seed_on_start: bool | None = None
    agent_cache_ttl_seconds: float = Field(default=300, ge=0)
    tool_timeout_seconds: float = Field(default=10, gt=0, le=600)
    tool_memory_mb: int = Field(default=64, ge=8, le=4096)
    tool_workers: int = Field(default=2, ge=1, le=64)
    tool_egress_allowlist: CommaSeparated = ()
    tool_modules: CommaSeparated = ()
    mcp_servers: Path | None = None
    allowed_models: CommaSeparated = CATALOGUE_MODELS
    allowed_origins: CommaSeparated = ()
    run_rate_limit: RateLimit | None = None
    auth_failure_limit: RateLimit = "30/minute"
    specialist_gate: float = Field(default=0.5, ge=0, le=1)
    department_gate: float = Field(default=0.6, ge=0, le=1)
    orchestrator_gate: float = Field(default=0.75, ge=0, le=1)
    serve_runs: bool = True
    drain_seconds: float = Field(default=0, ge=0, le=600)
    max_concurrent_runs: int = Field(default=64, ge=1)
    max_department_runs: int | None = Field(default=None, ge=1)
    max_run_seconds: float = Field(default=3600, gt=0)
    model_first_byte_seconds: float = Field(default=60, gt=0)
    model_idle_seconds: float = Field(default=30, gt=0)
    model_total_seconds: float = Field(default=600, gt=0)
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("allowed_models", "allowed_origins", "tool_egress_allowlist", "tool_modules", mode="before")
    @classmethod
    def split_commas(cls, value: object) -> object:
        """`a, b` is the list of `a` and `b`."""
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("log_level", "log_format", "anonymous_role", mode="before")
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

    @property
    def embedded(self) -> bool:
        """Whether the service starts its own `mongod`."""
        return self.mongodb_uri is None

    @property
    def seeds_on_start(self) -> bool:
        """`SEED_ON_START`, whose default depends on whether the database is embedded."""
        return self.embedded if self.seed_on_start is None else self.seed_on_start
