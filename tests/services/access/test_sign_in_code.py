"""The one-time code of the console's link."""

import time

import pytest

from app.services.access.sign_in_code import VALID_SECONDS, SignInCode, SignInCodeInvalid


def test_a_code_is_exchanged_once() -> None:
    codes = SignInCode("the-admin-key")
    code = codes.create()
    assert code is not None

    for wrong in (code + "x", "", "é", "\ud800"):
        with pytest.raises(SignInCodeInvalid):
            codes.exchange(wrong)
    assert codes.exchange(code) == "the-admin-key"
    with pytest.raises(SignInCodeInvalid):
        codes.exchange(code)


def test_a_new_code_replaces_the_last_one() -> None:
    codes = SignInCode("the-admin-key")
    first, second = codes.create(), codes.create()
    assert first is not None
    assert second is not None

    with pytest.raises(SignInCodeInvalid):
        codes.exchange(first)
    assert codes.exchange(second) == "the-admin-key"


def test_a_code_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    codes = SignInCode("the-admin-key")
    code = codes.create()
    assert code is not None
    now = time.monotonic()

    monkeypatch.setattr(time, "monotonic", lambda: now + VALID_SECONDS + 1)

    with pytest.raises(SignInCodeInvalid):
        codes.exchange(code)


def test_without_an_admin_key_there_is_no_code() -> None:
    codes = SignInCode(None)

    assert codes.create() is None
    with pytest.raises(SignInCodeInvalid):
        codes.exchange("any")
