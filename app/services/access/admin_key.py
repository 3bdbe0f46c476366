"""The bootstrap admin key of an embedded installation: a file in `DATA_DIR` that only its owner can read."""

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from app.errors import StartupError
from app.services.access.api_keys import KEY_PREFIX
from app.setting_values import MIN_KEY_CHARACTERS
from app.settings import Settings

FILE_NAME = "admin-key"


@dataclass(frozen=True)
class AdminKey:
    """The bootstrap key, its file if it has one, and whether this start created it."""

    text: str | None = field(default=None, repr=False)
    path: Path | None = None
    is_new: bool = False


def load_admin_key(settings: Settings) -> AdminKey:
    """Return `ADMIN_API_KEY`, or the key in `DATA_DIR` if MongoDB is embedded; a missing or empty file gets a new key.

    Raises:
        StartupError: the file cannot be read or written, or its key is too short.
    """
    if settings.admin_api_key is not None:
        return AdminKey(settings.admin_api_key.get_secret_value())
    if not settings.embedded:
        return AdminKey()
    path = settings.data_dir / FILE_NAME
    try:
        if path.exists() and (kept := path.read_text(encoding="ascii").strip()):
            return AdminKey(check_length(kept, path), path)
        key = KEY_PREFIX + secrets.token_urlsafe(32)
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            os.chmod(path, 0o600)
            file.write(key + "\n")
    except (OSError, UnicodeDecodeError) as error:
        message = f"DATA_DIR: the admin key in {path} cannot be read or written ({type(error).__name__})."
        raise StartupError(message) from None
    return AdminKey(key, path, is_new=True)


def check_length(key: str, path: Path) -> str:
    """Return the key of the file if it is long enough.

    Raises:
        StartupError: it is too short.
    """
    if len(key) < MIN_KEY_CHARACTERS:
        raise StartupError(
            f"DATA_DIR: the admin key in {path} has fewer than {MIN_KEY_CHARACTERS} characters. Remove the file: the "
            "next start creates a new key."
        )
    return key
