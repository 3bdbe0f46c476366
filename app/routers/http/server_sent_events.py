"""A stream of Server-Sent Events as a response."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from app.events.stream.broadcaster import Subscription
from app.events.stream.bus import Ending
from app.events.stream.encoding import Batch, Failure
from app.events.stream.hub import EventHub
from app.events.stream.sinks import QueueSink
from app.kit.concurrency import end_tasks
from app.services.access.authenticator import NotAuthenticated
from app.services.access.credential_watch import CredentialWatch
from app.telemetry.metrics import SUBSCRIBERS

HEARTBEAT_SECONDS = 8.0
HEARTBEAT = b": still here\n\n"


class EventStream(StreamingResponse):
    """A response of Server-Sent Events, which ends when its client leaves.

    Starlette's own class cancels its task in a way that leaves a hundred objects in reference cycles to the garbage
    collector.
    """

    media_type = "text/event-stream"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the frames until they or the client end."""
        leaving = asyncio.create_task(self.listen_for_disconnect(receive), name="listen for disconnect")
        streaming = asyncio.create_task(self.stream_response(send), name="stream events")
        try:
            await asyncio.wait({leaving, streaming}, return_when=asyncio.FIRST_COMPLETED)
            if streaming.done():
                streaming.result()
        finally:
            await end_tasks(leaving, streaming)


async def sse_frames(
    hub: EventHub,
    subscription: Subscription,
    sink: QueueSink,
    watch: CredentialWatch,
    credential: str | None,
    counted: AbstractContextManager[None],
) -> AsyncIterator[bytes]:
    """Yield the frames of a stream, with a comment whenever nothing came for a while."""
    batches = aiter(sink.batches())
    watched = watch.watching(credential, lambda: subscription.fail(NotAuthenticated()))
    with counted, watched, SUBSCRIBERS.labels("sse").track_inprogress():
        waiting = asyncio.ensure_future(anext(batches))
        hub.subscribe(subscription)
        try:
            while True:
                done, _ = await asyncio.wait({waiting}, timeout=HEARTBEAT_SECONDS)
                if not done:
                    yield HEARTBEAT
                    continue
                batch = waiting.result()
                yield batch.server_sent_events
                if ends(batch):
                    return
                waiting = asyncio.ensure_future(anext(batches))
        finally:
            hub.unsubscribe(subscription)
            waiting.cancel()


def ends(batch: Batch) -> bool:
    """Return whether nothing follows."""
    return isinstance(batch.items[-1], Ending | Failure)
