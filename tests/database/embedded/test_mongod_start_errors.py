"""An embedded mongod that cannot start: each cause is reported with its way out."""

from pathlib import Path

import pytest

from app.database.embedded import mongod as embedded_mongod
from app.database.embedded.mongod import EmbeddedMongod, find_mongod
from tests.fixtures.mongods import ending, ordinary_user, script, start_error


async def test_without_any_mongod_the_error_names_the_ways_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(embedded_mongod, "WHEEL_PACKAGE", "a_package_that_nobody_installed")

    message = await start_error(EmbeddedMongod(tmp_path))

    assert all(way in message for way in ("MONGODB_URI", "MONGOD_BINARY", "`embedded`"))


async def test_the_mongod_asked_for_comes_before_the_one_on_path_and_that_before_the_wheel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    in_wheel = find_mongod(None)
    on_path = script(tmp_path / "mongod", "#!/bin/sh\n")
    asked_for = script(tmp_path / "my-mongod", "#!/bin/sh\n")

    assert in_wheel.parts[-4:] == ("fiftyone", "db", "bin", "mongod")
    assert str(find_mongod(None)) == on_path
    assert str(find_mongod(asked_for)) == asked_for


@pytest.mark.parametrize("name", ["missing", "plain-text"])
async def test_a_binary_that_cannot_be_executed_is_reported_under_its_variable(tmp_path: Path, name: str) -> None:
    (tmp_path / "plain-text").write_text("not a program")

    message = await start_error(EmbeddedMongod(tmp_path, binary=str(tmp_path / name)))

    assert message.startswith(f"MONGOD_BINARY is '{tmp_path / name}'")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (ending(3, "first", "no such option"), "with status 3: no such option. See "),
        (ending(0), "with status 0: no reason logged"),
        (
            ending(
                9, '{"s": "I", "msg": "a"}', '{"s": "E", "msg": "b", "attr": {"error": "c"}}', '{"s": "I", "msg": "d"}'
            ),
            "with status 9: b: c. See ",
        ),
        (
            ending(
                14, '{"s": "E", "msg": "a", "attr": {"message": {"msg": "b", "error_str": "No space left on device"}}}'
            ),
            "has too little free space for the embedded MongoDB (the disk is full)",
        ),
        ("\x7fno program at all", "does not run on this system (Exec format error)"),
        (
            ending(127, "mongod: error while loading shared libraries: libcrypto.so.1.1"),
            "does not run on this system (mongod: error while loading shared libraries: libcrypto.so.1.1)",
        ),
        (
            "#!/bin/sh\nkill -ILL $$\n",
            "does not run on this system (it requires instructions that this processor lacks)",
        ),
    ],
    ids=["says why", "silent", "error entry", "disk full", "not a program", "missing library", "old processor"],
)
async def test_a_mongod_that_ends_while_starting_is_explained(tmp_path: Path, text: str, expected: str) -> None:
    mongod = EmbeddedMongod(tmp_path / "data", binary=script(tmp_path / "mongod", text))

    message = await start_error(mongod)

    assert expected in message


@pytest.mark.parametrize("place", ["data", "data/mongo", "data/logs"])
async def test_a_file_in_the_place_of_a_directory_is_named(tmp_path: Path, place: str) -> None:
    in_the_way = tmp_path / place
    in_the_way.parent.mkdir(exist_ok=True)
    in_the_way.touch()

    message = await start_error(EmbeddedMongod(tmp_path / "data"))

    assert message.startswith("DATA_DIR must be a directory")
    assert f"{in_the_way} cannot be used: Not a directory" in message


async def test_a_directory_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir(mode=0o500)
    mongod = EmbeddedMongod(data_dir, binary="/bin/true")  # the checkout may be root's alone

    with ordinary_user():
        message = await start_error(mongod)

    assert f"this user can write to, but {data_dir}" in message
    assert "Permission denied" in message


async def test_too_little_free_space_is_said_before_anything_starts(tmp_path: Path) -> None:
    mongod = EmbeddedMongod(tmp_path, free_bytes=lambda _: 123_456_789)

    message = await start_error(mongod)

    assert f"DATA_DIR {tmp_path} has too little free space" in message
    assert "123 MB are free and 500 MB are needed" in message
    assert not any((tmp_path / "mongo").iterdir())
