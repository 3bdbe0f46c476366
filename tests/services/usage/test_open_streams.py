"""How many event sockets and streams are open, in all and for each key."""

import pytest

from app.services.usage.open_streams import OpenStreams, TooManyStreams


def test_streams_are_bounded_for_each_key_and_in_all() -> None:
    streams = OpenStreams(in_all=3, per_key=2)
    with streams.one("a"), streams.one("a"):
        with pytest.raises(TooManyStreams, match="A key may have at most 2"), streams.one("a"):
            pass
        with streams.one("b"), pytest.raises(TooManyStreams, match="at most 3"):
            streams.ensure_room("c")

    streams.ensure_room("a")
