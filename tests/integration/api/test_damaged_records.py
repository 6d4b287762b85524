"""Damaged records over HTTP: a request for the record alone is 500, and everything else is served."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.support.api_client import COLLECTION, Api
from tests.support.damages import DAMAGES, Damage, remove_other_types
from tracker.store.store import Store


@pytest.fixture(autouse=True)
async def no_keys_of_other_types(store: Store) -> AsyncIterator[None]:
    yield
    await remove_other_types(store)


EVERY_DAMAGE = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
LISTS = {
    "newest first": COLLECTION,
    "with a count": f"{COLLECTION}?$count=true",
    "of a status": f"{COLLECTION}?$filter=status%20eq%20'NotStarted'",
    "by a context": f"{COLLECTION}?$filter=clientContext%20in%20('0','1','2')",
    "by a member that no index has": f"{COLLECTION}?$filter=endswith(id,'x')%20or%20attempt%20ge%200",
    "found by a search": f"{COLLECTION}?$search=0%20OR%201%20OR%202",
    "sorted": f"{COLLECTION}?$orderby=status,lastActionDateTime",
    "over all, in Google's dialect": "/google/calls/call-1/operations",
}


async def _damaged(api: Api, store: Store, damage: Damage) -> list[str]:
    """The ids of three operations, of which the second is damaged."""
    ids = [str((await api.created(clientContext=str(number)))["id"]) for number in range(3)]
    await damage(store, await store.find("test", ids[1]))
    return ids


@EVERY_DAMAGE
async def test_a_read_of_a_damaged_record_is_500_and_all_others_are_answered(
    api: Api, store: Store, damage: Damage
) -> None:
    ids = await _damaged(api, store, damage)
    answers = await asyncio.gather(*(api.get(f"{COLLECTION}/{id_}") for id_ in ids))
    assert [answer.status for answer in answers] == [200, 500, 200]
    assert answers[1].error["code"] == "internalServerError"
    assert answers[1].error["message"] == "The server has failed. Quote the request-id when you report it."
    for method, path in (("PATCH", ""), ("POST", "/cancel"), ("DELETE", "")):
        body: dict[str, str] | None = None if method == "DELETE" else {}
        assert (await api.request(method, f"{COLLECTION}/{ids[1]}{path}", json=body)).status == 500
    assert [(await api.get(f"/operations/{id_}")).status for id_ in ids] == [200, 500, 200]


@EVERY_DAMAGE
async def test_lists_leave_out_a_damaged_record(api: Api, store: Store, damage: Damage) -> None:
    ids = await _damaged(api, store, damage)
    for name, path in LISTS.items():
        answer = await api.get(path)
        if answer.status == 501:
            continue
        assert answer.status == 200, (name, answer.body)
        told = answer.body.decode()
        assert [id_ in told for id_ in ids] == [True, False, True], name
    assert (await api.get(f"{COLLECTION}/$count")).body in {b"2", b"3"}


@EVERY_DAMAGE
async def test_a_batch_answers_its_other_requests(api: Api, store: Store, damage: Damage) -> None:
    ids = await _damaged(api, store, damage)
    requests = [{"id": id_, "method": "GET", "url": f"{COLLECTION}/{id_}"} for id_ in ids]
    requests += [{"id": "list", "method": "GET", "url": COLLECTION}]
    answer = await api.post("/$batch", json={"requests": requests})
    statuses = {each["id"]: each["status"] for each in answer.json["responses"]}
    assert statuses == {ids[0]: 200, ids[1]: 500, ids[2]: 200, "list": 200}


@EVERY_DAMAGE
async def test_a_create_that_repeats_a_damaged_record_makes_no_second_operation(
    api: Api, store: Store, damage: Damage
) -> None:
    first = await api.created(id="once")
    await damage(store, await store.find("test", "once"))
    answers = await asyncio.gather(*(api.post(json={"id": id_}) for id_ in ("other-1", "once", "other-2")))
    assert first["id"] == "once"
    assert [answers[0].status, answers[2].status] == [201, 201]
    assert answers[1].status in {409, 500}
