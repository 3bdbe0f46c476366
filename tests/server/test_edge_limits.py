"""The parts of the edge: budgets, turns, the number of connections, open files."""

import asyncio
import resource

import pytest

from app.server.edge import limits
from app.server.edge.limits import Connections, FrameBudget, InputBuffer, Starts, Turns, connections_within


class Idler:
    """A connection that notes that it was given up."""

    def __init__(self) -> None:
        self.given_up = False

    def give_up(self) -> None:
        self.given_up = True


class Work:
    """A connection with a number of pieces of input."""

    def __init__(self, name: str, pieces: int, log: list[str]) -> None:
        self.name, self.pieces, self.log = name, pieces, log

    def parse_piece(self) -> bool:
        self.pieces -= 1
        self.log.append(self.name)
        return self.pieces > 0


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that budgets use."""
    now = [100.0]
    monkeypatch.setattr(limits.time, "monotonic", lambda: now[0])
    return now


def test_a_frame_budget_allows_a_burst_and_then_a_rate(clock: list[float]) -> None:
    budget = FrameBudget(per_second=10, at_once=3)

    burst = [budget.spend() for _ in range(4)]
    clock[0] += 0.15
    refilled = [budget.spend() for _ in range(2)]
    clock[0] += 60
    rested = [budget.spend() for _ in range(4)]

    assert burst == [True, True, True, False]
    assert refilled == [True, False]
    assert rested == [True, True, True, False]


async def test_connections_parse_input_in_turns() -> None:
    log: list[str] = []
    turns = Turns()
    for work in (Work("a", 3, log), Work("b", 1, log), Work("c", 2, log)):
        turns.add(work)

    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert log == ["a", "b", "c", "a", "c", "a"]


async def test_the_event_loop_runs_other_work_between_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TURN_SECONDS", 0)
    log: list[str] = []
    Turns().add(Work("piece", 3, log))
    for _ in range(3):
        await asyncio.sleep(0)
        log.append("others")

    assert log == ["piece", "others"] * 3


async def test_one_pipelined_request_starts_per_round() -> None:
    log: list[str] = []
    starts = Starts()
    for name in ("a", "b"):
        starts.add(lambda name=name: log.append(name))
    for _ in range(2):
        await asyncio.sleep(0)
        log.append("others")

    assert log == ["a", "others", "b", "others"]


def test_buffered_input_is_taken_in_pieces() -> None:
    buffer = InputBuffer()
    buffer.add(b"head\r\n\r\nbody")
    buffer.add(b" and more")

    assert buffer.take_through((b"\n\r\n", b"\n\n"), 100) == b"head\r\n\r\n"
    assert buffer.take_through((b"\n\r\n", b"\n\n"), 6) == b"body a"
    assert (buffer.take(100), len(buffer)) == (b"nd more", 0)


def test_the_connection_that_has_been_idle_for_longest_makes_room() -> None:
    connections = Connections(2)
    busy, idle, new, refused = Idler(), Idler(), Idler(), Idler()
    assert connections.open(busy)
    connections.busy(busy)
    assert connections.open(idle)

    assert connections.open(new)
    connections.close(idle)
    connections.busy(new)

    assert not connections.open(refused)
    assert [one.given_up for one in (busy, idle, new)] == [False, True, False]


def test_the_limit_on_open_files_bounds_the_connections() -> None:
    assert connections_within(4096, 20_000) == 4096
    assert connections_within(4096, 1024) == 768
    assert connections_within(4096, resource.RLIM_INFINITY) == 4096
