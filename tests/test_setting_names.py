"""Variables that look like misspelled settings."""

from pathlib import Path

import pytest

from app.setting_names import edit_distance, unknown_variables
from app.settings import Settings
from tests.fixtures.processes import run_command


@pytest.mark.parametrize(
    ("name", "likely"),
    [
        ("MONGO_URI", "MONGODB_URI"),
        ("MONGODB_URL", "MONGODB_URI"),
        ("MODEL_CONFIG", "MODELS_CONFIG"),
        ("PROT", "PORT"),
        ("HOTS", "HOST"),
        ("REDIS_URI", "REDIS_URL"),
        ("ADMIN_APIKEY", "ADMIN_API_KEY"),
        ("TOOL_TIMEOUT", None),
        ("DYNAMIC_AGENTS_PORT", None),
    ],
)
def test_a_near_miss_is_reported_with_the_likely_name(name: str, likely: str | None) -> None:
    (found,) = unknown_variables([name], Settings.model_fields)

    assert (found.name, found.likely) == (name, likely)
    assert likely is None or likely in str(found)


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "HOME", "TERM", "LANG", "USER", "PWD", "HOSTNAME", "LOGNAME", "EDITOR", "SHELL", "MAIL", "DISPLAY"),
        *("VIRTUAL_ENV", "PYTHONPATH", "SSL_CERT_FILE", "GROQ_API_KEY", "OTEL_SERVICE_NAME", "DYNAMIC_AGENTS_URL"),
        *(field.upper() for field in Settings.model_fields),
    ],
)
def test_variables_of_other_programs_and_known_settings_are_left_alone(name: str) -> None:
    assert unknown_variables([name, name.lower()], Settings.model_fields) == []


def test_the_distance_counts_insertions_deletions_substitutions_and_swaps() -> None:
    pairs = [("", ""), ("a", ""), ("", "ab"), ("port", "prot"), ("host", "hosts"), ("kitten", "sitting"), ("ca", "abc")]

    assert [edit_distance(first, second) for first, second in pairs] == [0, 1, 2, 1, 1, 3, 3]


@pytest.mark.slow
async def test_the_doctor_names_misspelled_settings(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PROT=9000\n")
    code, printed = await run_command("doctor", cwd=tmp_path, MODEL_CONFIG="models.yaml")

    assert code == 1
    assert "MODEL_CONFIG is not a setting of this service. Did you mean MODELS_CONFIG?" in printed
    assert "PROT is not a setting of this service. Did you mean PORT?" in printed
