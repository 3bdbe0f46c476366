"""Random answers of providers, through gateway and loop: well-formed, malformed, cut, re-ordered, refused.

Whatever comes, the run ends, what is sent next satisfies the provider's rules, so does a continuation with another
provider, and nothing that was paid for is missing from the record.
"""

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse

from tests.fixtures.model_server import Json
from tests.fixtures.provider_runs import RETRIED, refused
from tests.fixtures.providers.brain import Answer, Ask, Damaged, Reply, ToolUse, uses_tools
from tests.fixtures.providers.faults import Fault
from tests.fixtures.providers.registry import TWINS
from tests.fixtures.providers.server import ProviderServer
from tests.fixtures.runs import ADA, all_events, gapless, pause_less
from tests.fixtures.services import Service

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
CALL_TOKENS = 15
UNPAID = {
    Fault.RATE_LIMITED, Fault.OVERLOADED, Fault.SERVER_ERROR, Fault.CUT, Fault.ERROR_IN_200, Fault.NO_USAGE,
    Fault.REORDERED,
}  # fmt: skip
"""Replies that bring no usage, or may bring it where it cannot be read."""
NAMES = st.sampled_from(
    ["echo", "echo", "fail", "textStatistics", "no_such_tool", "files/read", "dots.and:colons", "", "x" * 80]
)
MALFORMED = ['{"text": "a b', '["a"]', "now echo this", '{"a": 1}{"b": 2}', "null", '"text"', "", "{'n': 1}"]
ARGUMENTS = st.one_of(
    st.dictionaries(st.sampled_from(["n", "text", "$ref", "a.b"]), st.integers() | st.text(max_size=20), max_size=3),
    st.sampled_from(MALFORMED),
)
CALLS = st.lists(st.builds(ToolUse, NAMES, ARGUMENTS), max_size=3).map(tuple)
TEXTS = st.sampled_from(["", " ", "\n", "Let me see.", "<think>Hm.</think>", "{}", "Done."]) | st.text(max_size=30)
ANSWERS = st.builds(Answer, TEXTS, CALLS, st.sampled_from(["", "Hm."]), st.sampled_from([None, None, "length"]))
DEFECTS = st.sampled_from([
    Fault.CUT, Fault.ERROR_IN_200, Fault.EMPTY, Fault.REASONING_ONLY, Fault.LENGTH, Fault.REFUSED_ANSWER,
    Fault.SAME_INDEX, Fault.NO_INDEX, Fault.NULL_INDEX, Fault.NO_IDS, Fault.NO_USAGE, Fault.CUT_ARGUMENTS,
    Fault.REORDERED,
])  # fmt: skip
BODIES = st.sampled_from(["", "<html>Bad gateway</html>", "null", "[]", "{}", '{"choices": []}', '{"choices": null}'])
REPLIES = st.one_of(
    ANSWERS,
    ANSWERS,
    st.builds(Damaged, DEFECTS, ANSWERS, st.integers(0, 1000)),
    st.sampled_from([Fault.RATE_LIMITED, Fault.OVERLOADED, Fault.SERVER_ERROR]),
    BODIES.map(lambda body: PlainTextResponse(body, media_type="application/json")),
)


@dataclass
class RandomModel:
    """A model that gives random replies and counts those that are paid for; after them it answers well."""

    replies: list[Reply]
    paid: int = 0

    def __call__(self, ask: Ask) -> Reply:
        reply = self.replies.pop(0) if self.replies else Answer("Done.")
        self.paid += is_paid(reply)
        return reply


def is_paid(reply: Reply) -> bool:
    """Whether a reply tells its tokens."""
    match reply:
        case Answer():
            return True
        case Damaged():
            return reply.fault not in UNPAID
        case Fault():
            return reply not in UNPAID
        case _:
            return False


@pytest.fixture(autouse=True)
def no_pauses(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow each other at once."""
    pause_less(service, monkeypatch, 0.001)


def search(examples: int) -> settings:
    """A search of so many examples; what it finds is printed as found, because each try to shrink it is two runs."""
    unharmed = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    phases = [Phase.explicit, Phase.reuse, Phase.generate]
    return settings(max_examples=examples, deadline=None, suppress_health_check=unharmed, phases=phases)


async def survive(
    service: Service, twins: ProviderServer, name: str, stream: bool, replies: list[Reply], next_name: str
) -> None:
    """Run on random replies, then continue with another provider."""
    twins.reset()
    model = RandomModel([*replies])
    twins.on("work", model)

    done = await service.run_agent(ADA, model=f"{name}{RETRIED}{'-streamed' * stream}", judge=False)

    assert done["status"] in ("completed", "failed")
    assert refused(twins) == [], (name, stream, replies)
    events = await all_events(service, done["executionId"])
    assert gapless(events)
    told = CALL_TOKENS * model.paid if TWINS[name].provider.traits.usage else 0
    assert recorded(events) == done["tokenUsage"]["total"] >= told, (name, stream, replies)

    twins.on("work", uses_tools(ToolUse("echo", {"n": 1}), text="Let me see."))
    more = await service.run_agent(ADA, model=next_name, judge=False, previousExecutionId=done["executionId"])

    assert (more["status"], refused(twins)) == ("completed", []), (name, stream, replies, next_name)


def recorded(events: list[Json]) -> int:
    """The tokens of all events that begin a turn or tell of a failed call."""
    spendings = [spending for event in events for spending in (event, event.get("failedCall") or {})]
    return sum(spending["usage"]["total"] for spending in spendings if spending.get("usage"))


@pytest.mark.slow
@search(12)
@given(st.sampled_from([*TWINS]), st.booleans(), st.lists(REPLIES, min_size=1, max_size=5), st.sampled_from([*TWINS]))
async def test_random_answers_end_in_a_valid_record(
    service: Service, provider_server: ProviderServer, name: str, stream: bool, replies: list[Reply], next_name: str
) -> None:
    await survive(service, provider_server, name, stream, replies, next_name)


@pytest.mark.long
@search(600)
@given(st.sampled_from([*TWINS]), st.booleans(), st.lists(REPLIES, min_size=1, max_size=8), st.sampled_from([*TWINS]))
async def test_many_random_answers_end_in_a_valid_record(
    service: Service, provider_server: ProviderServer, name: str, stream: bool, replies: list[Reply], next_name: str
) -> None:
    await survive(service, provider_server, name, stream, replies, next_name)
