"""The result of a verification in the shape of the API."""

from typing import Any

from pydantic import ConfigDict, SerializerFunctionWrapHandler, model_serializer

from app.kit.schemas import ApiModel
from app.services.audit.chain import BadEntry
from app.services.audit.verification import Verification


class HeadRead(ApiModel):
    """The last entry of the chain."""

    seq: int
    """Its number; 0 if the log is empty."""
    hash: str
    """Its hash; 64 zeros if the log is empty."""


class FirstBad(ApiModel):
    """The first entry or run tree that does not match. Either `seq` or `executionId` is given."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"seq": 7, "reason": "its content does not match its hash"}]}
    )

    seq: int | None = None
    """The number of the entry; left out for a run tree."""
    execution_id: str | None = None
    """The id of the root of the run tree; left out for an entry."""
    reason: str
    """The difference that was found."""

    @model_serializer(mode="wrap")
    def only_given(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the field that is not given."""
        return {name: value for name, value in handler(self).items() if value is not None}


class AuditVerification(ApiModel):
    """Whether the audit log and the events of its run trees are unchanged."""

    ok: bool
    """Whether everything matches."""
    checked: int
    """How many entries match; verification stops at the first that does not."""
    trees: int
    """How many run trees were compared with the hash of their events. Those that were deleted are left out."""
    first_bad: FirstBad | None
    """The first entry or run tree that does not match; `null` if everything matches."""
    head: HeadRead
    """The last entry. Keep it outside the database: given as `head`, it lets a later verification detect a truncated
    chain."""

    @classmethod
    def of(cls, found: Verification) -> "AuditVerification":
        """Convert a result."""
        bad = found.bad
        first_bad = None
        if bad is not None:
            where = {"seq": bad.seq} if isinstance(bad, BadEntry) else {"execution_id": bad.root_id}
            first_bad = FirstBad.model_validate({**where, "reason": bad.reason})
        head = HeadRead(seq=found.head.seq, hash=found.head.hash)
        return cls(ok=bad is None, checked=found.checked, trees=found.trees, first_bad=first_bad, head=head)
