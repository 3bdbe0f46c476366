# pyright: reportPrivateUsage=false
"""Killed at any point, with damaged files or a disk that takes nothing: no run loses anything or is archived twice."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from app.events.archive.reader import Archives, TreeArchive
from app.services.retention.archive_file import temporary
from app.services.retention.archiver import ArchiveNotVerified, TreeArchiver
from app.services.retention.passes import RetentionPass, archive_once
from app.services.retention.tree_export import ExportedTree
from tests.fixtures.http_api import assert_problem
from tests.fixtures.processes import run_command
from tests.fixtures.services import ADMIN_KEY, Service
from tests.services.retention.conftest import Keeper, files_in
from tests.services.retention.test_archived_trees import answers_about, frames_of

PLACES = (
    "after-archive-write",
    "after-archive-export",
    "after-archive-verified",
    "after-archive-marked",
    "after-archive-trimmed",
)
QUICK_PLACES = ("after-archive-verified", "after-archive-marked")
"""Before and after the moment that decides; the others take their time in the long tests."""


async def archive_command(service: Service, keeper: Keeper, folder: Path, **variables: str) -> tuple[int, str]:
    """Run `dynamic-agents archive` on the service's database and archives."""
    data_dir = str(keeper.archives.directory.parent)
    settings = {"MONGODB_URI": service.database_uri, "DATA_DIR": data_dir, "ADMIN_API_KEY": ADMIN_KEY, **variables}
    return await run_command("archive", "--older-than", "365d", cwd=folder, **settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    "place", [pytest.param(place, marks=[] if place in QUICK_PLACES else pytest.mark.long) for place in PLACES]
)
async def test_a_pass_that_is_killed_loses_nothing_and_the_next_one_finishes(
    service: Service, keeper: Keeper, tmp_path: Path, place: str
) -> None:
    roots = [await keeper.old_run() for _ in range(3)]
    before = [await answers_about(service, one, 3) for one in roots]

    killed, _ = await archive_command(service, keeper, tmp_path, FAILPOINTS=f"{place}:kill:2")
    between = [await answers_about(service, one, 3) for one in roots]
    await keeper.free_lease()
    code, printed = await archive_command(service, keeper, tmp_path)
    after = [await answers_about(service, one, 3) for one in roots]

    marked = place in PLACES[3:]
    assert (killed, code) == (-9, 0), printed
    assert between == before
    assert after == before
    assert f"{1 if marked else 2} run" in printed
    assert await keeper.executions.count_documents({"untrimmed": True}) == 0
    assert await keeper.database["retention-exports"].count_documents({}) == 0
    documents = [await keeper.document(one) for one in roots]
    assert all("archivedAt" in one and one["events"] == [] and "output" not in one for one in documents)
    files = [name for name in files_in(keeper.archives.directory) if name.split(".")[0] in roots]
    assert len(files) == 6
    assert not [name for name in files_in(keeper.archives.directory) if name.endswith(".tmp")]


async def test_a_pass_that_is_killed_before_a_deletion_leaves_no_file_of_the_deleted_run(
    service: Service, keeper: Keeper, tmp_path: Path
) -> None:
    root_id = await keeper.old_run()

    await archive_command(service, keeper, tmp_path, FAILPOINTS="after-archive-verified:kill")
    deleted = await service.http.delete(f"/api/v1/executions/{root_id}")
    await keeper.free_lease()
    await archive_once(RetentionPass(keeper.database, keeper.archives), None, 0)

    assert deleted.status_code == 204
    assert [name for name in files_in(keeper.archives.directory) if name.startswith(root_id)] == []
    assert await keeper.database["retention-exports"].count_documents({}) == 0


def flip(path: Path, place: int = -1) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    """Drop the end of a file."""
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize("harm", [flip, cut, Path.unlink])
@pytest.mark.parametrize("of_manifest", [False, True])
async def test_damage_is_found_before_anything_is_trimmed(
    keeper: Keeper, monkeypatch: pytest.MonkeyPatch, harm: Callable[[Path], None], of_manifest: bool
) -> None:
    root_id = await keeper.old_run()
    verify = TreeArchiver._verify

    async def harm_and_verify(self: TreeArchiver, exported: ExportedTree) -> None:
        archive = exported.archive
        await asyncio.to_thread(harm, archive.manifest_path if of_manifest else archive.data_path)
        await verify(self, exported)

    monkeypatch.setattr(TreeArchiver, "_verify", harm_and_verify)
    with pytest.raises(ArchiveNotVerified):
        await keeper.run()
    kept = await keeper.document(root_id)
    monkeypatch.undo()
    done = await keeper.run()

    assert "archivedAt" not in kept
    assert kept["events"]
    assert done.trees == 1


@pytest.mark.parametrize("harm", [flip, cut, Path.unlink])
async def test_damage_is_found_by_readers(service: Service, keeper: Keeper, harm: Callable[[Path], None]) -> None:
    root_id = await keeper.old_run()
    await keeper.run()
    archive = await keeper.archive_of(root_id)
    good = archive.data_path.read_bytes()
    block = next(one for one in (await archive.manifest()).blocks if one.kind == "event")

    if harm is flip:
        flip(archive.data_path, block.offset + 20)
    else:
        harm(archive.data_path)
    read = (await service.http.get(f"/api/v1/executions/{root_id}")).json()
    problems = [await service.http.get(f"/api/v1/executions/{root_id}/{part}") for part in ("events", "events/2")]
    stream = await service.http.get(f"/api/v1/executions/{root_id}/events/stream")
    frames = await frames_of(service, root_id)
    archive.data_path.write_bytes(good)

    for problem in problems:
        assert_problem(problem, 410, "execution-archived")
    assert b'"code":"execution-archived"' in frames[-1]
    assert (stream.status_code, "execution-archived" in stream.text) == (200 if harm is flip else 410, True)
    assert read["status"] == "completed"
    assert read["archive"]["readable"] == (harm is flip)  # the block with the execution is not damaged
    assert (await keeper.events(root_id)).status_code == 200


async def test_a_manifest_that_another_one_replaces_is_not_believed(service: Service, keeper: Keeper) -> None:
    first, second = await keeper.old_run(), await keeper.old_run()
    await keeper.run()
    of_first, of_second = await keeper.archive_of(first), await keeper.archive_of(second)

    for path, other in ((of_first.data_path, of_second.data_path), (of_first.manifest_path, of_second.manifest_path)):
        path.write_bytes(other.read_bytes())
    elsewhere = Archives(keeper.archives.directory)
    fresh = elsewhere.find(await keeper.document(first))

    assert isinstance(fresh, TreeArchive)
    assert not await fresh.is_readable()
    await service.http.delete(f"/api/v1/executions/{first}")


async def test_a_directory_that_cannot_be_written_is_logged_and_nothing_is_trimmed(
    keeper: Keeper, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root_id = await keeper.old_run()
    (tmp_path / "archive").write_text("a file where a directory belongs")

    ran = await archive_once(RetentionPass(keeper.database, Archives.under(tmp_path)), 365, 0)

    assert ran is True
    assert "archive-write-failed" in capsys.readouterr().out
    assert "archivedAt" not in await keeper.document(root_id)


async def test_a_full_disk_stops_the_pass_and_nothing_is_trimmed(
    keeper: Keeper, capsys: pytest.CaptureFixture[str]
) -> None:
    roots = [await keeper.old_run() for _ in range(2)]
    before = files_in(keeper.archives.directory)
    folder = keeper.archives.directory / "2020-01"
    folder.mkdir(parents=True, exist_ok=True)
    temporary(folder / f"{roots[0]}.jsonl.zst").symlink_to("/dev/full")
    await archive_once(RetentionPass(keeper.database, keeper.archives), 365, 0)
    printed = capsys.readouterr().out
    kept = [await keeper.document(one) for one in roots]
    done = await keeper.run()

    assert "archive-write-failed" in printed
    assert "ENOSPC" in printed
    assert not any("archivedAt" in one for one in kept)
    assert before == [name for name in files_in(keeper.archives.directory) if name.split(".")[0] not in roots]
    assert done.trees == 2
