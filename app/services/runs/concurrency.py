"""Tasks that belong together: the first failure stops the others and comes out as itself."""

from collections.abc import Generator
from contextlib import contextmanager


@contextmanager
def plain_errors() -> Generator[None]:
    """Around a `TaskGroup`: raise the first error of the group instead of the group."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise first_error(group) from group


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first error that is no group."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
