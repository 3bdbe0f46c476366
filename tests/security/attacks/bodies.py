"""JSON that costs a careless reader far more than its size: as bodies, and as the first message of a socket."""

import asyncio
import itertools

from tests.fixtures.attacking import Outcome, Target, attack
from tests.security.attacks.frames import MASK, ending_of, open_socket
from tests.security.attacks.requests import Streams, again_and_again, status_of

BODY_CHARACTERS = 1_000_000
MESSAGE_CHARACTERS = 60_000
SENDERS = 4


def shapes(size: int) -> list[bytes]:
    """Texts of about this many characters: wide, deep, full of keys, with a long key over many values, of digits."""
    keys = ",".join(f'"{number:06x}":0' for number in range(size // 11))
    texts = [
        f'{{{keys},"000000":1}}',
        '{"' + "k" * (size // 2) + '":[' + ",".join(["0"] * (size // 4)) + "]}",
        '{"' + "k" * (size // 2) + '":[' + "NaN," * (size // 8) + "0]}",
        "[" + ",".join(["[" * 30 + "]" * 30] * (size // 61)) + "]",
        "[" * size,
        "[" + ",".join(['{"a":0,"a":0}'] * (size // 14)) + "]",
        "[" + ",".join(["1" * 4000] * (size // 4001)) + "]",
        "[" + ",".join(['"\\ud800"'] * (size // 9)) + "]",
    ]
    return [text.encode() for text in texts]


@attack("large bodies of expensive JSON")
async def expensive_bodies(target: Target) -> Outcome:
    """Post one expensive body after the other with a key."""
    bodies = itertools.cycle(shapes(BODY_CHARACTERS))

    async def once(streams: Streams, outcome: Outcome) -> None:
        body = next(bodies)
        head = (
            "POST /api/v1/agents/any-001/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {target.key}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        streams[1].write(head.encode() + body)
        outcome.sent_bytes += len(body)
        outcome.note(await status_of(streams[0]))

    return await again_and_again(target, SENDERS, once)


@attack("first messages of expensive JSON")
async def expensive_messages(target: Target) -> Outcome:
    """Open one socket after the other without a key, and send an expensive message in place of the credentials."""
    outcome = Outcome(peers=SENDERS)
    messages = itertools.cycle(shapes(MESSAGE_CHARACTERS))

    async def be_one() -> None:
        while not target.is_over:
            message = next(messages)
            try:
                async with asyncio.timeout(max(target.ends - asyncio.get_running_loop().time(), 0.01)):
                    reader, writer = await open_socket(target.port)
                    writer.write(b"\x81\xfe" + len(message).to_bytes(2) + MASK + message)
                    outcome.sent_bytes += len(message)
                    outcome.note(await ending_of(reader))
                    writer.transport.abort()
            except TimeoutError:
                outcome.note("open")
            except (ConnectionError, asyncio.IncompleteReadError):
                outcome.note("cut")

    await asyncio.gather(*(be_one() for _ in range(SENDERS)))
    return outcome
