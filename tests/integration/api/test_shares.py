"""Streams and waiting requests that tenants share, and members that a waiting request does not keep."""

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import pytest

from tests.support.api_client import COLLECTION, open_api
from tests.support.records import claim, make_record
from tests.support.waiting import LONGEST_WAIT, eventually
from tracker.config import Settings
from tracker.domain import lifecycle
from tracker.domain.operation import DONE
from tracker.runtime.budgets import Budgets
from tracker.store.store import Store


async def test_the_streams_of_one_tenant_leave_room_for_another(settings: Settings) -> None:
    async with open_api(settings, streams=10) as api, AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def opened(tenant: str) -> aiohttp.ClientResponse:
            headers = {"Authorization": f"Bearer {tenant}-token"}
            return await stack.enter_async_context(session.get(f"{api.url}/events", headers=headers))

        assert [(await opened("test")).status for _ in range(9)] == [200] * 9
        refused = await opened("test")
        assert (refused.status, refused.headers["Retry-After"]) == (503, "10")
        assert [(await opened("other")).status for _ in range(2)] == [200, 503]


async def test_one_tenant_may_open_all_streams_while_it_is_alone(settings: Settings) -> None:
    alone = settings.model_copy(update={"tokens": settings.tokens.splitlines()[0]})
    async with open_api(alone, streams=3) as api, AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        headers = {"Authorization": "Bearer test-token"}
        opened = [await stack.enter_async_context(session.get(f"{api.url}/events", headers=headers)) for _ in range(4)]
        assert [response.status for response in opened] == [200, 200, 200, 503]


@pytest.mark.usefixtures("waits_of_an_hour")
async def test_the_waits_of_one_tenant_leave_room_for_another(
    settings: Settings, store: Store, budgets: list[Budgets]
) -> None:
    mine, _ = await store.create(make_record())
    other, _ = await store.create(make_record(tenant="other"))
    async with asyncio.timeout(LONGEST_WAIT), open_api(settings, waits=3) as api:
        path, wait = f"{COLLECTION}/{mine.id}", {"Prefer": "wait=3600"}
        held = [asyncio.create_task(api.get(path, headers=wait)) for _ in range(2)]

        async def all_wait() -> bool:
            return budgets[0].waits.held == 2

        await eventually(all_wait)
        refused = await api.get(path, headers=wait)
        assert (refused.status, refused.headers["Retry-After"]) == (503, "10")
        assert (await api.post(f"/google/operations/{mine.id}:wait")).status == 503
        created = await api.post(json={}, headers={"Prefer": "respond-async, wait=3600"})
        assert (created.status, created.json["status"]) == (202, "NotStarted"), "a create is not refused: it is done"
        others = asyncio.create_task(api.get(f"{COLLECTION}/{other.id}", headers=wait, token="other-token"))

        async def three_wait() -> bool:
            return budgets[0].waits.held == 3

        await eventually(three_wait)
        for record in (mine, other):
            await store.apply(lifecycle.succeed(await claim(store, record), DONE, {}))
        answers = [*await asyncio.gather(*held), await others]
        assert {answer.json["status"] for answer in answers} <= {"Running", "Completed"}
        assert budgets[0].waits.held == 0


@pytest.mark.usefixtures("waits_of_an_hour")
@pytest.mark.parametrize("form", ["get", "create", "google"])
async def test_large_members_are_in_the_answer_of_a_request_that_waited(
    settings: Settings, store: Store, budgets: list[Budgets], form: str
) -> None:
    large = {"large": "x" * 50_000}
    async with asyncio.timeout(LONGEST_WAIT), open_api(settings) as api:
        if form == "create":
            task = asyncio.create_task(
                api.post(json={"id": "mine", **large}, headers={"Prefer": "respond-async, wait=3600"})
            )
        else:
            await store.create(make_record(id="mine", members=large))
            task = asyncio.create_task(
                api.get(f"{COLLECTION}/mine", headers={"Prefer": "wait=3600"})
                if form == "get"
                else api.post("/google/operations/mine:wait")
            )

        async def waits() -> bool:
            return budgets[0].waits.held == 1

        await eventually(waits)
        record = await store.find("test", "mine")
        await store.apply(lifecycle.succeed(await claim(store, record), DONE, {}))
        answer = await task
        body = answer.json.get("response", {}).get("value", answer.json)
        assert body["large"] == large["large"]
