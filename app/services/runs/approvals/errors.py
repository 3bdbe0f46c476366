"""The reasons why a decision on an approval is refused."""

from http import HTTPStatus

from app.errors import AppError, NotFound
from app.models.approval import ApprovalStatus


class ApprovalNotFound(NotFound):
    """There is no such approval, or the caller may not see it."""

    code = "approval-not-found"

    def __init__(self, approval_id: str) -> None:
        super().__init__(f"There is no approval {approval_id[:100]!r}.")


class ApprovalConflict(AppError):
    """The approval cannot be decided in this way."""

    status = HTTPStatus.CONFLICT


class ApprovalChanged(ApprovalConflict):
    """The decision is for a different input."""

    code = "approval-changed"

    def __init__(self, approval_id: str) -> None:
        super().__init__(
            f"The inputDigest is not that of approval {approval_id}. Read the approval again, and decide on its input."
        )


class ApprovalAlreadyDecided(ApprovalConflict):
    """Someone has decided already."""

    code = "approval-decided"

    def __init__(self, approval_id: str, status: ApprovalStatus) -> None:
        super().__init__(f"Approval {approval_id} is already {status.value}. A decision is final.")


class ApprovalExpired(ApprovalConflict):
    """The time to decide is over."""

    code = "approval-expired"

    def __init__(self, approval_id: str) -> None:
        super().__init__(f"Approval {approval_id} has expired. The run continued without the call.")


class ApprovalCancelled(ApprovalConflict):
    """The run has ended, or is being cancelled."""

    code = "approval-cancelled"

    def __init__(self, approval_id: str) -> None:
        super().__init__(f"Approval {approval_id} was cancelled because its run has ended.")
