"""Checks take turns in one thread, and no caller fills its queue."""

import asyncio

from app.kit.check_thread import CHECKS_PER_CALLER, in_check_thread_for


async def test_many_checks_of_one_caller_do_not_hold_up_another() -> None:
    done: list[str] = []
    many = [asyncio.create_task(in_check_thread_for("many", done.append, "many")) for _ in range(50)]
    await asyncio.sleep(0)
    one = asyncio.create_task(in_check_thread_for("one", done.append, "one"))
    await asyncio.gather(one, *many)

    assert len(done) == 51
    assert done.index("one") <= 2 * CHECKS_PER_CALLER


async def test_a_check_that_fails_leaves_its_place_to_the_next() -> None:
    for _ in range(2 * CHECKS_PER_CALLER):
        try:
            await in_check_thread_for("fails", int, "x")
        except ValueError:
            continue

    assert await in_check_thread_for("fails", int, "7") == 7
