"""Requests that are held, and end with their token."""

import asyncio

import pytest
from aiohttp.test_utils import make_mocked_request

from tests.support.waiting import eventually, soon
from tracker.api.auth import Callers, hash_token
from tracker.errors import Unauthorized
from tracker.service import Caller

ANN, BOB = Caller("ann", "blue"), Caller("bob", "red")
REQUEST = make_mocked_request("GET", "/", headers={"Authorization": "Bearer a"})


def callers(**tokens: Caller) -> dict[str, Caller]:
    return {hash_token(token): caller for token, caller in tokens.items()}


@pytest.fixture
def known() -> Callers:
    return Callers(callers(a=ANN, b=BOB))


async def hold(known: Callers, tenant: str = "blue") -> None:
    with known.held.hold(REQUEST, tenant):
        await asyncio.Event().wait()


async def held(known: Callers, number: int = 1) -> None:
    async def are_held() -> bool:
        return len(known.held) == number

    await eventually(are_held)


async def test_a_removed_token_ends_what_it_holds_and_nothing_else(known: Callers) -> None:
    mine = asyncio.create_task(hold(known))
    await held(known)
    assert known.replace(callers(a=ANN)) == (0, 1)
    await asyncio.sleep(0)
    assert not mine.done()
    assert known.replace(callers(b=BOB)) == (1, 1)
    with pytest.raises(Unauthorized):
        await soon(mine)
    assert mine.cancelling() == 0
    assert len(known.held) == 0


async def test_a_token_that_has_got_another_tenant_ends_what_it_holds(known: Callers) -> None:
    mine = asyncio.create_task(hold(known))
    await held(known)
    assert known.replace(callers(a=Caller("ann", "red"), b=BOB)) == (1, 1)
    with pytest.raises(Unauthorized):
        await soon(mine)


async def test_another_name_for_the_same_tenant_ends_nothing(known: Callers) -> None:
    mine = asyncio.create_task(hold(known))
    await held(known)
    known.replace(callers(a=Caller("anna", "blue")))
    await asyncio.sleep(0)
    assert not mine.done()
    mine.cancel()
    with pytest.raises(asyncio.CancelledError):
        await mine


@pytest.mark.parametrize("now", [{"b": BOB}, {"a": Caller("ann", "red")}])
async def test_a_token_that_was_removed_before_the_request_is_held_does_not_hold_it(
    known: Callers, now: dict[str, Caller]
) -> None:
    known.replace(callers(**now))
    with pytest.raises(Unauthorized):
        await soon(hold(known))
    assert len(known.held) == 0


async def test_a_cancellation_by_another_stays_one(known: Callers) -> None:
    """The client has gone away when its token is removed: nobody reads an answer."""
    mine = asyncio.create_task(hold(known))
    await held(known)
    mine.cancel()
    known.replace({})
    with pytest.raises(asyncio.CancelledError):
        await soon(mine)


async def test_a_request_that_loses_its_cancellation_ends_at_the_next_look(known: Callers) -> None:
    lost = asyncio.Event()

    async def lose_one() -> None:
        with known.held.hold(REQUEST, "blue"):
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost.set()
            await asyncio.Event().wait()

    mine = asyncio.create_task(lose_one())
    await held(known)
    known.replace({})
    await soon(lost.wait())
    known.held.end_again()
    with pytest.raises(Unauthorized):
        await soon(mine)
    assert mine.cancelling() == 0
    known.held.end_again()


async def test_a_request_that_ends_by_itself_is_held_no_longer(known: Callers) -> None:
    with known.held.hold(REQUEST, "blue"):
        assert len(known.held) == 1
    known.replace({})
    assert len(known.held) == 0
    with pytest.raises(ValueError, match="own"), Callers(callers(a=ANN)).held.hold(REQUEST, "blue"):
        raise ValueError("its own")
