"""Errors about archived trees: they cannot be read, or cannot be continued."""

from http import HTTPStatus

from app.errors import AppError


class ArchiveUnreadable(AppError):
    """The tree is archived, and its archive cannot be read here: a file is missing, damaged or elsewhere."""

    code = "execution-archived"
    status = HTTPStatus.GONE

    def __init__(self, root_id: str, problem: str) -> None:
        super().__init__(
            f"Run {root_id} is archived, and its archive cannot be read: {problem}. An operator can restore the file "
            "from a backup."
        )
        self.problem = problem


class ExecutionArchived(AppError):
    """The tree is archived, so nothing can be added to it or continue from it."""

    code = "execution-archived"
    status = HTTPStatus.CONFLICT

    def __init__(self, execution_id: str, what: str) -> None:
        super().__init__(f"Execution {execution_id} is archived: {what}.")
