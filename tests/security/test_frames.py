"""Floods of WebSocket frames: each is ended with a close code, and other clients do not notice."""

import asyncio

import pytest

from tests.fixtures.attack_bounds import AttackService, port_of
from tests.fixtures.processes import ServeProcess
from tests.fixtures.services import ADMIN_KEY
from tests.security.attacks.frames import CONTINUATION, FLOODS, PING, UNFINISHED_TEXT, ending_of, open_socket

KEY = b"X-API-Key: " + ADMIN_KEY.encode()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [*FLOODS, *(pytest.param(f"{name}, with a key", marks=pytest.mark.long) for name in FLOODS)],
)
async def test_a_flood_of_frames_is_closed_and_others_are_answered(name: str, attack_service: AttackService) -> None:
    outcome = await attack_service(name)

    assert set(outcome.endings) <= {"1008", "4401", "open"}  # 4401: a stranger's first message was not `auth`
    assert outcome.endings.keys() & {"1008", "4401"}


async def test_a_message_has_a_bounded_number_of_fragments(attacked: ServeProcess) -> None:
    reader, writer = await open_socket(port_of(attacked), KEY)
    writer.write(UNFINISHED_TEXT + CONTINUATION * 64)

    assert await ending_of(reader) == 1008
    writer.close()


@pytest.mark.long
async def test_a_client_that_does_not_authenticate_in_time_is_closed_even_if_it_sends_frames(
    attacked: ServeProcess,
) -> None:
    reader, writer = await open_socket(port_of(attacked))

    async def drip() -> None:
        while True:
            writer.write(PING)
            await asyncio.sleep(0.2)

    dripping = asyncio.create_task(drip())
    async with asyncio.timeout(8):
        code = await ending_of(reader)
    dripping.cancel()
    writer.close()

    assert code == 4408
