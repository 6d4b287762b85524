"""A request in a batch has the response of the same request alone; and the round trips to Redis of a batch."""

import asyncio
import json
import random
import re
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.api_client import COLLECTION, Api
from tests.support.waiting import LONGEST_WAIT
from tracker.domain.operation import Json
from tracker.store.batching import Batcher
from tracker.store.keys import Keys

ALONE = {"request-id", "content-length", "date", "server", "connection"}
"""Headers that differ from request to request, or are not an answer's in a batch."""
VARYING = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"
)
PATHS = [
    COLLECTION,
    f"{COLLECTION}?$top=1&$count=true",
    f"{COLLECTION}?$top=x",
    f"{COLLECTION}?$filter=clientContext%20eq%20'none'",
    f"{COLLECTION}?$filter=)",
    f"{COLLECTION}/known",
    f"{COLLECTION}/deleted",
    f"{COLLECTION}/nothing",
    f"{COLLECTION}/known/cancel",
    "/communications/calls/%2e%2e/operations",
    "/communications/calls/a%2Fb%20c/operations",
    "/communications/calls/%FF/operations",
    "/operations/known",
    "/operations/nothing",
    "/nothing",
    "/",
    "/healthz",
    "/openapi.json",
]
BODIES: list[Any] = [
    None,
    {},
    {"clientContext": "x"},
    {"id": "known"},
    {"id": "known", "clientContext": "other"},
    {"id": "a/b", "clientContext": 7, "status": 7},
    {"@odata.type": "#nothing"},
    {"@odata.type": "#microsoft.graph.playPromptOperation"},
    {"members": {"a": [1, 2.5, None, "ü\u2028"]}},
    {"delay": "1h", "resultInfo": {"code": 4}},
    {"reason": "r" * 300},
    [1],
    "text",
    7,
    False,
]
HEADERS: list[Json] = [
    {},
    {"Content-Type": "application/json; charset=utf-8"},
    {"Content-Type": "text/plain"},
    {"Accept": "application/json;odata.metadata=minimal"},
    {"Accept": "text/html"},
    {"If-None-Match": 'W/"1"', "Accept": "*/*"},
    {"If-None-Match": "*"},
    {"If-Match": 'W/"77"'},
    {"Prefer": "wait=0, odata.maxpagesize=1"},
    {"OData-MaxVersion": "4.01", "client-request-id": "mine"},
]


@pytest.fixture
def rng() -> random.Random:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


async def prepared(api: Api) -> None:
    await api.created(id="known")
    await api.created(id="deleted")
    await api.delete(f"{COLLECTION}/deleted")


def drawn(rng: random.Random) -> Json:
    """Any request that changes nothing which another answer would show."""
    method = rng.choice(["GET", "GET", "GET", "POST", "POST", "PUT", "DELETE"])
    request: Json = {"method": method, "url": rng.choice(PATHS), "headers": rng.choice(HEADERS)}
    if method == "DELETE":
        request["url"] = rng.choice(["/nothing", f"{COLLECTION}/nothing", f"{COLLECTION}/deleted"])
    elif method == "POST":
        request["url"] = rng.choice([path for path in PATHS if "/calls/" not in path or "cancel" in path])
        if request["url"].endswith("cancel"):
            request["url"] = request["url"].replace("known", "nothing")
        request["body"] = rng.choice(BODIES)
        if request["body"] is not None and "Content-Type" not in request["headers"]:
            request["headers"] = {**request["headers"], "Content-Type": "application/json"}
    return request


def shown(status: int, headers: Any, body: Any) -> tuple[int, Json, str]:
    """What must be the same: ids and times are not."""
    kept = {name.lower(): VARYING.sub("*", value) for name, value in headers.items() if name.lower() not in ALONE}
    return status, kept, VARYING.sub("*", json.dumps(body, sort_keys=True))


async def alone(api: Api, request: Json) -> tuple[int, Json, str]:
    body = request.get("body")
    data = None if body is None else json.dumps(body).encode()
    kwargs: Json = {} if data is None else {"data": data}
    answer = await api.request(
        request["method"], request["url"], headers={"Accept": "*/*", **request["headers"]}, **kwargs
    )
    headers = dict(answer.headers)
    if not answer.body:
        headers.pop("Content-Type", None)
    return shown(answer.status, headers, json.loads(answer.body) if answer.body else None)


async def test_a_request_in_a_batch_is_answered_as_alone(api: Api, rng: random.Random) -> None:
    await prepared(api)
    for _ in range(30):
        requests = [drawn(rng) for _ in range(20)]
        batch = {"requests": [{"id": str(index), **request} for index, request in enumerate(requests)]}
        answer = await api.post("/$batch", json=batch)
        assert answer.status == 200, answer.body
        for request, response in zip(requests, answer.json["responses"], strict=True):
            in_batch = shown(response["status"], response["headers"], response["body"])
            assert in_batch == await alone(api, request), request


@pytest.mark.parametrize("body", BODIES, ids=json.dumps)
async def test_a_create_in_a_batch_is_validated_as_alone_and_affects_no_other(api: Api, body: Any) -> None:
    headers = {"Content-Type": "application/json"}
    request = {"method": "POST", "url": COLLECTION, "headers": headers, "body": body}
    good = {"method": "POST", "url": COLLECTION, "headers": headers, "body": {}}
    batch = {"requests": [{"id": "1", **good}, {"id": "2", **request}, {"id": "3", **good}]}
    await prepared(api)
    answer = await api.post("/$batch", json=batch)
    before, response, after = answer.json["responses"]
    assert (before["status"], after["status"]) == (201, 201)
    assert shown(response["status"], response["headers"], response["body"]) == await alone(api, request)


@pytest.mark.parametrize(
    "url",
    [
        COLLECTION,
        f"/v1.0{COLLECTION}",
        f"/beta/{COLLECTION}",
        f"{COLLECTION}?$top=1",
        *("/communications/calls/a%2Fb%20c/operations", "/communications/calls/%2e%2e/operations"),
        *("/communications/calls/%FF/operations", "/communications/calls/%C3%BC'/operations"),
    ],
)
@pytest.mark.parametrize("headers", HEADERS, ids=json.dumps)
async def test_creates_that_are_alike_are_answered_as_alone(api: Api, url: str, headers: Json) -> None:
    if not any(name.lower() == "content-type" for name in headers):
        headers = {**headers, "Content-Type": "application/json"}
    request = {"method": "POST", "url": url, "headers": headers}
    bodies: list[Any] = [{"id": "same", "clientContext": "x"}, {"resultInfo": {"code": 4}}, {"status": 7}, [1]]
    await alone(api, {**request, "body": bodies[0]})
    batch = {"requests": [{"id": str(index), **request, "body": body} for index, body in enumerate(bodies)]}
    answer = await api.post("/$batch", json=batch)
    for body, response in zip(bodies, answer.json["responses"], strict=True):
        in_batch = shown(response["status"], response["headers"], response["body"])
        assert in_batch == await alone(api, {**request, "body": body}) or response["status"] == 201
    assert len({response["headers"]["request-id"] for response in answer.json["responses"]}) == len(bodies)


async def test_what_the_batch_says_of_versions_and_itself_counts_for_each_create(api: Api) -> None:
    requests = [{"id": str(number), "method": "POST", "url": COLLECTION, "body": {}} for number in range(2)]
    headers = {"OData-MaxVersion": "4.01", "client-request-id": "mine"}
    answer = await api.post("/$batch", json={"requests": requests}, headers=headers)
    for response in answer.json["responses"]:
        assert response["headers"]["odata-version"] == "4.01"
        assert response["headers"]["client-request-id"] == "mine"
    answer = await api.post("/$batch", json={"requests": requests}, headers={"OData-Version": "4.0"})
    assert {response["status"] for response in answer.json["responses"]} == {201}


async def test_twenty_creates_are_one_call_of_a_script(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    await api.created()
    sent: list[int] = []
    round_trip = Batcher._round_trip

    async def counting(self: Batcher, calls: Any) -> Any:
        sent.append(len(calls))
        return await round_trip(self, calls)

    monkeypatch.setattr(Batcher, "_round_trip", counting)
    requests = [{"id": str(number), "method": "POST", "url": COLLECTION, "body": {}} for number in range(20)]
    answer = await api.post("/$batch", json={"requests": requests})
    assert {response["status"] for response in answer.json["responses"]} == {201}
    assert sent == [1]


async def test_an_outage_is_reported_for_each_create_of_a_batch(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(*_: Any) -> Any:
        raise RedisConnectionError("away")

    monkeypatch.setattr(Batcher, "_run", away)
    requests = [{"id": str(number), "method": "POST", "url": COLLECTION, "body": {}} for number in range(3)]
    answer = await api.post("/$batch", json={"requests": requests})
    assert answer.status == 200
    assert [response["status"] for response in answer.json["responses"]] == [503] * 3
    assert {response["headers"]["retry-after"] for response in answer.json["responses"]} == {"1"}


async def test_many_batches_at_once_are_sent_in_parts_and_all_are_stored(api: Api, redis: Redis) -> None:
    requests = [{"id": str(number), "method": "POST", "url": COLLECTION, "body": {}} for number in range(20)]
    answers = await asyncio.gather(*(api.post("/$batch", json={"requests": requests}) for _ in range(20)))
    assert [response["status"] for answer in answers for response in answer.json["responses"]] == [201] * 400
    assert await redis.zcard(Keys().call("test", "call-1")) == 400


async def test_creates_keep_their_order_in_the_list(api: Api) -> None:
    requests = [
        {"id": str(number), "method": "POST", "url": COLLECTION, "body": {"clientContext": str(number)}}
        for number in range(20)
    ]
    await api.post("/$batch", json={"requests": requests})
    listed = (await api.get(COLLECTION)).json["value"]
    assert [operation["clientContext"] for operation in listed] == [str(number) for number in reversed(range(20))]


async def test_scripts_that_the_server_lost_are_loaded_again(api: Api, redis: Redis) -> None:
    await api.created()
    await redis.script_flush()
    requests = [{"id": str(number), "method": "POST", "url": COLLECTION, "body": {}} for number in range(5)]
    answer = await api.post("/$batch", json={"requests": requests})
    assert {response["status"] for response in answer.json["responses"]} == {201}
    assert len((await api.get(COLLECTION)).json["value"]) == 6


async def test_the_same_id_twice_in_a_batch_is_one_operation(api: Api) -> None:
    requests = [
        {"id": str(number), "method": "POST", "url": COLLECTION, "body": {"id": "same", "n": number // 2}}
        for number in range(4)
    ]
    answer = await api.post("/$batch", json={"requests": requests})
    assert [response["status"] for response in answer.json["responses"]] == [201, 200, 409, 409]


async def test_a_batch_of_wrong_creates_does_not_go_to_redis(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(Batcher, "_send", sent.append)
    requests = [{"id": str(n), "method": "POST", "url": COLLECTION, "body": {"id": "a b"}} for n in range(3)]
    async with asyncio.timeout(LONGEST_WAIT):
        answers = (await api.post("/$batch", json={"requests": requests})).json["responses"]
    assert [answer["status"] for answer in answers] == [400] * 3
    assert not sent


async def test_creates_of_a_batch_whose_answer_is_lost_are_not_made_again(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Batcher._run

    async def lost(self: Batcher, calls: Any) -> Any:
        await run(self, calls)
        raise RedisConnectionError("gone")

    with monkeypatch.context() as patched:
        patched.setattr(Batcher, "_run", lost)
        requests = [{"id": str(n), "method": "POST", "url": COLLECTION, "body": {}} for n in range(3)]
        answers = (await api.post("/$batch", json={"requests": requests})).json["responses"]
    assert [answer["status"] for answer in answers] == [503] * 3
    assert len((await api.get(COLLECTION)).json["value"]) == 3
