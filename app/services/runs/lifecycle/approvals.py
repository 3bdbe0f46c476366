"""People's decisions on tool calls that are waiting for approval."""

import json
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.alias_generators import to_camel

from app.errors import MAX_PROBLEMS, FieldError, InvalidInput
from app.kit.canonical_json import canonical_digest
from app.kit.check_thread import in_check_thread
from app.kit.json_values import JsonObject, clean_json
from app.kit.schemas import Text
from app.models.approval import Approval, ApprovalStatus
from app.services.access.api_keys import Caller
from app.services.catalog.tool_checker import errors_of
from app.services.runs.accept.starter import started_by
from app.services.runs.approvals.errors import ApprovalChanged
from app.services.runs.approvals.store import ApprovalStore, Decision, refuse_final
from app.services.runs.engine.run_engine import RunEngine
from app.services.runs.queries.approvals import ApprovalQueries, ApprovalRead
from app.services.runs.work.agent_loop import MAX_ARGUMENT_CHARACTERS
from app.services.tools.schemas import InvalidSchema, compile_schema

MAX_MESSAGE_CHARACTERS = 20_000
STATUSES = {"approve": ApprovalStatus.APPROVED, "decline": ApprovalStatus.DECLINED}


class DecisionCreate(BaseModel):
    """A person's decision on a tool call."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        use_attribute_docstrings=True,
        strict=True,
        json_schema_extra={
            "examples": [
                {
                    "decision": "approve",
                    "inputDigest": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
                }
            ]
        },
    )

    decision: Literal["approve", "decline"]
    """`approve` lets the call be made, `decline` returns an error to the model, which continues without the call."""
    input_digest: Annotated[Text, Field(max_length=200)]
    """The approval's `inputDigest`: the decision applies to this input only."""
    input: JsonObject | None = None
    """An edited input, with which the call is made instead of the model's. It must match the tool's schema."""
    message: Annotated[Text, Field(max_length=MAX_MESSAGE_CHARACTERS)] | None = None
    """A message. If the call is declined, the model receives it."""

    @model_validator(mode="after")
    def only_an_approval_has_an_input(self) -> "DecisionCreate":
        """Refuse an edited input for a declined call, which is not made."""
        if self.decision == "decline" and self.input is not None:
            raise InvalidInput.of_field("input", "only an approved call has an input")
        return self


@dataclass(frozen=True)
class ApprovalService:
    """Stores decisions on the approvals that a caller may see, and lets their runs continue."""

    store: ApprovalStore
    queries: ApprovalQueries
    engine: RunEngine

    async def decide(self, approval_id: str, wanted: DecisionCreate, caller: Caller) -> ApprovalRead:
        """Store a decision; the run continues in whichever process has room.

        Raises:
            ApprovalNotFound: there is no such approval, or the caller may not see it.
            ApprovalChanged: the decision is for a different input.
            ApprovalAlreadyDecided, ApprovalExpired, ApprovalCancelled: it no longer waits for a decision.
            InvalidInput: the edited input does not match the tool's schema, or cannot be stored.
        """
        approval = await self.queries.get_approval(approval_id, caller)
        refuse_final(approval)
        if wanted.input_digest != approval.input_digest:
            raise ApprovalChanged(approval_id)
        edited = wanted.input
        if edited is not None:
            await check_edited(approval, edited)
            edited = None if canonical_digest(edited) == approval.input_digest else edited
        person = started_by(caller)
        decision = Decision(
            status=STATUSES[wanted.decision],
            input_digest=wanted.input_digest,
            decided_by={"type": person.type, "name": person.name},
            message=wanted.message or None,
            edited_input=edited,
        )
        decided = await self.store.decide(approval_id, decision, self.engine.leases.server_now())
        self.engine.continue_decided(decided.root_execution_id)
        return ApprovalRead.of(decided)


async def check_edited(approval: Approval, edited: JsonObject) -> None:
    """Check that a tool can be called with exactly this input.

    Raises:
        InvalidInput: it cannot be; the error names the path of each invalid value.
    """
    if len(json.dumps(edited, ensure_ascii=False)) > MAX_ARGUMENT_CHARACTERS:
        raise InvalidInput.of_field("input", f"must have at most {MAX_ARGUMENT_CHARACTERS} characters as JSON")
    if clean_json(edited) != edited:
        raise InvalidInput.of_field("input", "has a value that cannot be stored exactly")
    try:
        validator = await in_check_thread(compile_schema, clean_json(approval.input_schema))
    except InvalidSchema as error:
        raise InvalidInput.of_field("input", f"cannot be checked: {error}") from None
    wrong = await errors_of(validator, edited)
    if wrong:
        problems = [FieldError(f"input.{one.path}" if one.path else "input", one.message) for one in wrong]
        raise InvalidInput.of_fields(problems[:MAX_PROBLEMS])
