"""Settings: what a variable means, and the one line in which a wrong one is named."""

from pathlib import Path
from typing import Any

import pytest

from app.errors import StartupError
from app.settings import CATALOG_MODELS, Settings

ORIGINS = ("http://localhost:3000", "https://studio.example", "http://[::1]")
WRONG_REDIS_URLS = (
    "nonsense",
    "http://x",
    "redis://127.0.0.1:99999",
    "redis://user:s3cr3t-word@host:notaport",
    "redis://:s3cr3t#word@host:6379",
    "redis://host?no_such_option=1",
    "redis://host?socket_timeout=soon",
)
WRONG_LIMITS = ("often", "0/hour", "2/second;0/hour", "1/99999 year", ";", "2/second;x")
SECONDS = (
    "MAX_RUN_SECONDS",
    "MODEL_FIRST_BYTE_SECONDS",
    "MODEL_IDLE_SECONDS",
    "MODEL_TOTAL_SECONDS",
    "AGENT_CACHE_TTL_SECONDS",
)


@pytest.fixture(autouse=True)
def work_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory without a `.env`, and no variable of ours set."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return tmp_path


def test_without_any_variable_the_defaults_of_the_contract_hold() -> None:
    settings = Settings.load()

    assert (settings.host, settings.port, settings.data_dir) == ("127.0.0.1", 8000, Path(".data"))
    assert (settings.tool_timeout_seconds, settings.tool_memory_mb) == (10, 64)
    assert (settings.agent_cache_ttl_seconds, settings.anonymous_role) == (300, "none")
    assert (settings.log_format, settings.log_level) == ("console", "info")
    assert (settings.allowed_models, settings.allowed_origins) == (CATALOG_MODELS, ())
    assert (settings.embedded, settings.seeds_on_start) == (True, True)
    assert settings.admin_api_key is None


@pytest.mark.parametrize(
    ("variable", "value", "meant"),
    [
        ("PORT", "0", 0),
        ("PORT", "", 8000),
        ("LOG_LEVEL", "WARNING", "warning"),
        ("LOG_FORMAT", "JSON", "json"),
        ("ANONYMOUS_ROLE", "Viewer", "viewer"),
        ("SEED_ON_START", "no", False),
        ("SEED_ON_START", "1", True),
        ("AGENT_CACHE_TTL_SECONDS", "0.5", 0.5),
        ("ALLOWED_MODELS", " a/b , c/d ,,", ("a/b", "c/d")),
        ("ALLOWED_ORIGINS", "https://studio.example", ("https://studio.example",)),
        ("ALLOWED_ORIGINS", "http://localhost:3000/, HTTPS://Studio.Example:443,http://[::1]:80/", ORIGINS),
        ("ALLOWED_ORIGINS", "tauri://localhost,http://10.0.0.1:443", ("tauri://localhost", "http://10.0.0.1:443")),
        ("RUN_RATE_LIMIT", "20/second;600/minute", "20/second;600/minute"),
        ("JWT_JWKS_URL", "https://id.example/jwks", "https://id.example/jwks"),
        ("JWT_JWKS_URL", "http://localhost:9000/jwks", "http://localhost:9000/jwks"),
        ("JWT_JWKS_URL", "http://127.0.0.2/jwks", "http://127.0.0.2/jwks"),
        ("JWT_JWKS_URL", "http://[::1]:9000/jwks", "http://[::1]:9000/jwks"),
        ("TRUSTED_PROXIES", "", ()),
        (
            "ALLOWED_HOSTS",
            "Agents.Example:8000, *.studio.example,[::1]",
            ("agents.example:8000", "*.studio.example", "[::1]"),
        ),
        ("TRUSTED_PROXIES", "10.0.0.7, 2001:db8::/32", ("10.0.0.7", "2001:db8::/32")),
        ("JWT_AUDIENCE", "agents", "agents"),
        ("MAX_RUN_SECONDS", "0.5", 0.5),
        ("DATA_DIR", "/var/lib/agents", Path("/var/lib/agents")),
    ],
)
def test_a_variable_is_read_as_it_is_meant(
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    value: str,
    meant: Any,  # noqa: ANN401 - any setting
) -> None:
    monkeypatch.setenv(variable, value)

    assert getattr(Settings.load(), variable.lower()) == meant


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PORT", "eight"),
        ("PORT", "-1"),
        ("PORT", "65536"),
        ("SEED_ON_START", "perhaps"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("ANONYMOUS_ROLE", "admin"),
        ("AGENT_CACHE_TTL_SECONDS", "-1"),
        ("AGENT_CACHE_TTL_SECONDS", "nan"),
        ("TOOL_TIMEOUT_SECONDS", "0"),
        ("TOOL_TIMEOUT_SECONDS", "inf"),
        ("TOOL_MEMORY_MB", "4"),
        ("TOOL_MEMORY_MB", "many"),
        ("MAX_CONCURRENT_RUNS", "0"),
        ("ADMIN_API_KEY", "schlüssel-schlüssel-schlüssel"),
        ("ADMIN_API_KEY", "a"),
        ("ADMIN_API_KEY", "k" * 15),
        ("ADMIN_API_KEY", "k" * 513),
        ("ADMIN_API_KEY", " a-key-behind-a-space"),
        ("ADMIN_API_KEY", "a-key\tand-a-tab"),
        *(("REDIS_URL", value) for value in WRONG_REDIS_URLS),
        *(("RUN_RATE_LIMIT", value) for value in WRONG_LIMITS),
        ("AUTH_FAILURE_LIMIT", "0/hour"),
        *((name, value) for name in SECONDS for value in ("inf", "nan", "1e300", "-1")),
        ("JWT_SECRET", "a secret of 31 bytes, a few too"),
        ("JWT_JWKS_URL", "notaurl"),
        ("JWT_JWKS_URL", "file:///etc/passwd"),
        ("JWT_JWKS_URL", "http://id.example/jwks"),
        ("JWT_JWKS_URL", "http://10.0.0.1/jwks"),
        ("JWT_JWKS_URL", "http://127.0.0.1.id.example/jwks"),
        ("JWT_JWKS_URL", "http://localhost.id.example/jwks"),
        *(
            ("ALLOWED_HOSTS", value)
            for value in ("*", "https://a.example", "a.example/", "a b.example", "[::x]", "::1")
        ),
        *(("TRUSTED_PROXIES", value) for value in ("*", "proxy.example", "10.0.0.1/8", "0.0.0.0/0", "::/0", "10.1.2")),
        *(
            ("ALLOWED_ORIGINS", value)
            for value in ("*", "null", "another.example", "https://a.example/path", "https://ä.example")
        ),
    ],
)
def test_an_invalid_value_is_reported_in_one_line_that_names_its_variable_and_not_the_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)

    with pytest.raises(StartupError) as caught:
        Settings.load()

    message = str(caught.value)
    assert message.startswith(f"{variable} is invalid: ")
    assert "\n" not in message
    assert len(value) < 6 or value not in message


def test_the_env_file_is_read_and_the_environment_wins(work_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (work_directory / ".env").write_text("PORT=9000\nHOST=0.0.0.0\nSOMETHING_ELSE=1\n")
    monkeypatch.setenv("PORT", "9001")

    settings = Settings.load()

    assert (settings.host, settings.port) == ("0.0.0.0", 9001)  # noqa: S104 - read, not bound


def test_a_wrong_value_in_the_env_file_is_named_too(work_directory: Path) -> None:
    (work_directory / ".env").write_text("PORT=nine\n")

    with pytest.raises(StartupError, match="PORT is invalid"):
        Settings.load()


def test_an_env_file_that_is_no_text_is_named(work_directory: Path) -> None:
    (work_directory / ".env").write_bytes(b"PORT=9000\n\xff\xfe\n")

    with pytest.raises(StartupError, match=r"Cannot read \.env: save the file as UTF-8"):
        Settings.load()


def test_options_of_the_command_line_take_precedence_if_they_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "9001")

    assert Settings.load(port=9002).port == 9002
    assert Settings.load(port=None).port == 9001


@pytest.mark.parametrize(("seed_on_start", "seeds"), [(None, False), ("true", True), ("false", False)])
def test_with_a_database_of_ones_own_seeds_are_sown_only_when_asked_for(
    monkeypatch: pytest.MonkeyPatch, seed_on_start: str | None, *, seeds: bool
) -> None:
    monkeypatch.setenv("MONGODB_URI", "mongodb://localhost")
    if seed_on_start:
        monkeypatch.setenv("SEED_ON_START", seed_on_start)

    settings = Settings.load()

    assert (settings.embedded, settings.seeds_on_start) == (False, seeds)


def test_secrets_do_not_show_when_settings_are_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MONGODB_URI", "ANTHROPIC_API_KEY", "OPENAI_API_KEY", "ADMIN_API_KEY", "JWT_SECRET"):
        monkeypatch.setenv(name, "a-secret-of-some-length-and-a-bit-more")
    monkeypatch.setenv("REDIS_URL", "redis://:a-secret-of-some-length@localhost")

    assert "a-secret" not in repr(Settings.load())
