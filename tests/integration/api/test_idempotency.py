"""Creates that are sent again with the same idempotency key, over real HTTP and a real server."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from redis.asyncio import Redis

from tests.support.api_client import COLLECTION, Answer, Api, open_api
from tests.support.records import claim
from tests.support.redis_servers import Server
from tests.support.scheduling import commands
from tracker.config import Settings
from tracker.domain import lifecycle
from tracker.domain.operation import DONE
from tracker.service import IDEMPOTENCY_MARGIN
from tracker.store.keys import once_digest
from tracker.store.store import Store

DAY = 86400


def fixdate(seconds_ago: float = 0.0) -> str:
    return format_datetime(datetime.now(UTC) - timedelta(seconds=seconds_ago), usegmt=True)


def repeatability(name: str = "r-1", *, seconds_ago: float = 1.0) -> dict[str, str]:
    return {"Repeatability-Request-ID": name, "Repeatability-First-Sent": fixdate(seconds_ago)}


FAMILIES: Mapping[str, dict[str, str]] = {
    "key": {"Idempotency-Key": '"8e03978e-40d5-43dd-bc93-6894a57f9324"'},
    "repeatability": repeatability(),
    "operation": {"Operation-Id": "o-1"},
}
FAMILY = pytest.mark.parametrize("headers", FAMILIES.values(), ids=FAMILIES)


async def held(api: Api) -> int:
    """How many operations the call has."""
    return len((await api.get(COLLECTION)).json["value"])


@FAMILY
async def test_a_create_that_is_sent_again_is_answered_again(api: Api, headers: dict[str, str]) -> None:
    first = await api.post(json={"clientContext": "x"}, headers=headers)
    again = await api.post(json={"clientContext": "x"}, headers=headers)
    assert (first.status, again.status) == (201, 201)
    assert again.json == first.json
    for name in ("Location", "Operation-Location", "ETag"):
        assert again.headers[name] == first.headers[name]
    assert await held(api) == 1


@FAMILY
async def test_what_is_answered_again_is_the_operation_as_it_now_is(
    api: Api, store: Store, headers: dict[str, str]
) -> None:
    first = await api.post(json={}, headers=headers)
    record = await claim(store, await store.find("test", first.json["id"]))
    await store.apply(lifecycle.succeed(record, DONE, {}))
    again = await api.post(json={}, headers=headers)
    assert (again.status, again.json["id"], again.json["status"]) == (201, first.json["id"], "Completed")


@FAMILY
async def test_fifty_identical_creates_at_once_make_one_operation(
    api: Api, redis: Redis, store: Store, headers: dict[str, str]
) -> None:
    answers = await asyncio.gather(*(api.post(json={"a": 1}, headers=headers) for _ in range(50)))
    assert {answer.status for answer in answers} == {201}
    assert len({answer.headers["Location"] for answer in answers}) == 1
    assert len({answer.body for answer in answers}) == 1
    assert await held(api) == 1
    assert await redis.llen(store.keys.queue()) == 1


@pytest.mark.parametrize(
    ("family", "status", "code"),
    [("key", 409, "conflict"), ("repeatability", 400, "badRequest"), ("operation", 400, "badRequest")],
)
async def test_another_body_with_the_same_key_is_refused(api: Api, family: str, status: int, code: str) -> None:
    headers = FAMILIES[family]
    await api.post(json={"clientContext": "x"}, headers=headers)
    others: list[Answer] = [
        await api.post(json={"clientContext": "y"}, headers=headers),
        await api.post(json={"clientContext": "x", "id": "mine"}, headers=headers),
        await api.post("/communications/calls/other/operations", json={"clientContext": "x"}, headers=headers),
    ]
    for answer in others:
        assert (answer.status, answer.error["code"]) == (status, code)
        assert answer.error["target"] in headers
        assert answer.headers.get("Repeatability-Result") == ("rejected" if family == "repeatability" else None)
    assert await held(api) == 1


async def test_keys_of_two_headers_or_two_tenants_are_separate(api: Api) -> None:
    sent = [{"Idempotency-Key": "a"}, {"Operation-Id": "a"}, repeatability("a")]
    mine = [(await api.post(json={}, headers=headers)).json["id"] for headers in sent]
    theirs = [(await api.post(json={}, headers=headers, token="other-token")).json["id"] for headers in sent]
    assert len({*mine, *theirs}) == 6


@FAMILY
async def test_a_deleted_operation_is_not_made_again(api: Api, store: Store, headers: dict[str, str]) -> None:
    first = await api.post(json={}, headers=headers)
    await api.delete(f"{COLLECTION}/{first.json['id']}")
    again = await api.post(json={}, headers=headers)
    assert (again.status, again.error["code"]) == (410, "gone")
    await store.redis.delete(*[key async for key in store.redis.scan_iter(store.keys.operation("*"))])
    forgotten = await api.post(json={}, headers=headers)
    assert (forgotten.status, forgotten.error["code"]) == (410, "gone")
    await store.redis.flushall()


async def test_a_refused_create_leaves_its_key_free(api: Api) -> None:
    key = FAMILIES["key"]
    assert (await api.post(json={"status": 7}, headers=key)).status == 400
    assert (await api.post(json={"status": "String"}, headers=key)).status == 201


async def test_a_stored_operation_that_was_answered_for_a_key_is_answered_again(api: Api) -> None:
    key = FAMILIES["key"]
    first = await api.created(id="mine")
    for _ in range(2):
        answer = await api.post(json={"id": "mine"}, headers=key)
        assert (answer.status, answer.json) == (200, first)
    assert (await api.post(json={"id": "another"}, headers=key)).status == 409


@pytest.mark.parametrize(
    "headers",
    [
        {"Repeatability-Request-ID": "r"},
        {"Repeatability-First-Sent": fixdate()},
        {"Repeatability-Request-ID": "", "Repeatability-First-Sent": fixdate()},
        {"Repeatability-Request-ID": "r", "Repeatability-First-Sent": "yesterday"},
        {"Repeatability-Request-ID": "r", "Repeatability-First-Sent": "2026-01-31T12:00:00Z"},
        {"Repeatability-Request-ID": "r", "Repeatability-First-Sent": "Sunday, 06-Nov-94 08:49:37 GMT"},
        {"Repeatability-Request-ID": "r", "Repeatability-First-Sent": "Mon, 06 Nov 1994 08:49:37 GMT"},
        {"Repeatability-Request-ID": "r", "Repeatability-First-Sent": "Sun, 06 Nov 1994 08:49:37 +0000"},
        {"Repeatability-Request-ID": "r", "Repeatability-First-Sent": fixdate(-3600)},
        {**repeatability(), "Operation-Id": "o"},
    ],
    ids=range(10),  # not by the dates in them, which are those of each process that collects
)
async def test_repeatability_that_is_not_whole_is_rejected(api: Api, headers: dict[str, str]) -> None:
    answer = await api.post(json={}, headers=headers)
    assert (answer.status, answer.error["code"]) == (400, "badRequest")
    assert answer.headers["Repeatability-Result"] == "rejected"
    assert await held(api) == 0


@pytest.mark.parametrize(
    "date",
    [
        "Sun, 06 Nov 1994 99:99:99 GMT",
        "Sun, 06 Nov 999999999999999999999999999999 08:49:37 GMT",
        "Sun, 00 Nov 0000 08:49:37 GMT",
    ],
)
async def test_a_date_with_impossible_numbers_is_no_date(api: Api, date: str) -> None:
    answer = await api.post(json={}, headers={"Repeatability-Request-ID": "r", "Repeatability-First-Sent": date})
    assert (answer.status, answer.error["target"]) == (400, "Repeatability-First-Sent")


async def test_a_request_from_before_what_is_remembered_is_not_made(api: Api) -> None:
    answer = await api.post(json={}, headers=repeatability(seconds_ago=DAY + 10))
    assert (answer.status, answer.error["code"]) == (412, "preconditionFailed")
    assert answer.headers["Repeatability-Result"] == "rejected"
    assert (await api.post(json={}, headers=repeatability(seconds_ago=DAY - 60))).status == 201


async def test_the_answer_to_a_repeatable_request_says_so(api: Api) -> None:
    for body, status in (({"status": 7}, 400), ({}, 201), ({}, 201)):
        answer = await api.post(json=body, headers=repeatability())
        assert (answer.status, answer.headers["Repeatability-Result"]) == (status, "accepted")
    assert "Repeatability-Result" not in (await api.post(json={}, headers=FAMILIES["key"])).headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Idempotency-Key": ""},
        {"Idempotency-Key": "two words"},
        {"Idempotency-Key": "k" * 256},
        {"Operation-Id": "é"},
        {"Idempotency-Key": "k", "Operation-Id": "o"},
    ],
    ids=str,
)
async def test_a_malformed_key_is_refused(api: Api, headers: dict[str, str]) -> None:
    answer = await api.post(json={}, headers=headers)
    assert (answer.status, answer.error["code"], answer.error["target"]) == (400, "badRequest", next(iter(headers)))


async def test_a_key_is_remembered_as_long_as_the_setting_says(settings: Settings, store: Store) -> None:
    async with open_api(settings, idempotency=3600.0) as api:
        await api.post(json={}, headers={"Operation-Id": "o"})
        refused = await api.post(json={}, headers=repeatability(seconds_ago=3700))
    [name] = [key async for key in store.redis.scan_iter(f"{store.keys.prefix}:once:*")]
    assert name == f"{store.keys.prefix}:once:{once_digest('test', 'Operation-Id:o')}"
    assert 3600 + IDEMPOTENCY_MARGIN - 60 < await store.redis.ttl(name) <= 3600 + IDEMPOTENCY_MARGIN
    assert refused.status == 412


async def test_a_create_without_a_key_costs_nothing_more(api: Api, redis: Redis) -> None:
    async def cost(**headers: str) -> int:
        before = await commands(redis)
        await api.post(json={}, headers=headers)
        return await commands(redis) - before

    await cost()
    plain = [await cost() for _ in range(5)]
    named = [await cost(**{"Idempotency-Key": str(number)}) for number in range(5)]
    assert min(named) == min(plain) + 2, "the name is looked up and written"


@FAMILY
async def test_what_is_remembered_outlives_the_api_and_the_server(
    settings: Settings, away: Server, headers: dict[str, str]
) -> None:
    mine = settings.model_copy(update={"redis_url": away.url})
    async with open_api(mine) as api:
        first = await api.post(json={"a": 1}, headers=headers)
    await away.go_away("killed")
    await away.come_back("killed")
    async with open_api(mine.model_copy(update={"redis_url": away.url})) as api:
        again = await api.post(json={"a": 1}, headers=headers)
        other = await api.post(json={"a": 2}, headers=headers)
        assert (again.status, again.json["id"]) == (201, first.json["id"])
        assert other.status in {400, 409}
        assert await held(api) == 1
