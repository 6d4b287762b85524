"""Answers that would be large: lists, batches, and the answers that nobody reads."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import chain
from typing import Self

import pytest
from yarl import URL

from tests.support.api_client import COLLECTION, Api, open_api
from tests.support.records import make_record
from tests.support.waiting import LONGEST_WAIT, eventually, soon
from tracker.api import answers
from tracker.config import Settings
from tracker.domain.operation import Json
from tracker.listing import index_reader
from tracker.runtime.budgets import Budgets
from tracker.store.store import Store

LARGE = 60_000
VERY_LARGE = 120
"""How many large operations are in a list that the buffers of the system do not take."""
ROOM = 32 * 2**20
BUDGET = 256 * 1024
MOST = BUDGET + LARGE + 10_000
"""How long an answer is at most: its budget, and one operation more."""


@pytest.fixture
async def large(store: Store) -> list[str]:
    """The ids of thirty large operations, the newest first."""
    records = [make_record(members={"large": f"{number:02}" * (LARGE // 2)}) for number in range(30)]
    for record in records:
        await store.create(record)
    return [record.id for record in reversed(records)]


@pytest.fixture
async def small_answers(settings: Settings) -> AsyncIterator[Api]:
    async with open_api(settings, answer_bytes=BUDGET) as api:
        yield api


async def walked(api: Api, path: str, member: str = "@odata.nextLink") -> list[tuple[int, Json]]:
    """All pages of a list, each with its length in bytes."""
    pages: list[tuple[int, Json]] = []
    while path:
        answer = await api.get(path)
        assert answer.status == 200, answer.body
        pages.append((len(answer.body), answer.json))
        path = answer.json.get(member, "")
    return pages


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?$top=999",
        "?$filter=contains(id,'-')",
        "?$orderby=lastActionDateTime desc",
        "?$search=NOT nothing",
        "?$filter=status eq 'NotStarted' and clientContext eq null",
        "?$filter=contains(id,'-')&$count=true",
    ],
)
async def test_a_list_ends_at_its_budget_and_its_links_lead_to_all_operations(
    small_answers: Api, large: list[str], query: str
) -> None:
    pages = await walked(small_answers, COLLECTION + query.replace(" ", "%20"))
    assert list(chain.from_iterable([one["id"] for one in page["value"]] for _, page in pages)) == large
    assert max(size for size, _ in pages) <= MOST
    assert len(pages) == 6
    assert all(len(one["large"]) == LARGE for _, page in pages for one in page["value"])


async def test_a_list_by_ids_ends_at_its_budget_too(small_answers: Api, large: list[str]) -> None:
    listed = ",".join(f"'{one}'" for one in large)
    pages = await walked(small_answers, f"{COLLECTION}?$filter=id%20in%20({listed})")
    assert [one["id"] for _, page in pages for one in page["value"]] == large
    assert max(size for size, _ in pages) <= MOST


async def test_a_page_has_one_operation_even_if_that_is_longer_than_the_budget(
    settings: Settings, large: list[str]
) -> None:
    async with open_api(settings, answer_bytes=1000) as api:
        pages = await walked(api, COLLECTION)
    assert [[one["id"] for one in page["value"]] for _, page in pages] == [[one] for one in large]


async def test_a_list_of_selected_members_is_as_long_as_they_are(small_answers: Api, large: list[str]) -> None:
    [(_, page)] = await walked(small_answers, f"{COLLECTION}?$select=id")
    assert [one["id"] for one in page["value"]] == large


async def test_lists_of_the_other_dialects_end_at_the_budget(small_answers: Api, store: Store) -> None:
    for number in range(12):
        result = {"large": f"{number:02}" * (LARGE // 2)}
        await store.create(make_record(members=result))
    found, token = [], ""
    while True:
        answer = await small_answers.get(f"/google/calls/call-1/operations?pageToken={token}")
        assert len(answer.body) <= MOST
        found += [one["name"] for one in answer.json["operations"]]
        token = answer.json.get("nextPageToken", "")
        if not token:
            break
    assert len(found) == len(set(found)) == 12


async def test_pages_are_the_same_however_little_one_round_trip_reads(
    small_answers: Api, large: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = await walked(small_answers, COLLECTION)
    monkeypatch.setattr(index_reader, "CHUNK_BYTES", 1)
    assert [page["value"] for _, page in await walked(small_answers, COLLECTION)] == [
        page["value"] for _, page in whole
    ]
    assert len(large) == 30


async def test_the_lists_of_a_batch_share_the_budget_of_one_answer(small_answers: Api, large: list[str]) -> None:
    requests = [{"id": str(number), "method": "GET", "url": COLLECTION} for number in range(20)]
    answer = await small_answers.post("/v1.0/$batch", json={"requests": requests})
    assert len(answer.body) <= BUDGET + 20 * (LARGE + 10_000)
    for response in answer.json["responses"]:
        assert response["status"] == 200
        assert [one["id"] for one in response["body"]["value"]] == large[:1]
        rest = await walked(small_answers, response["body"]["@odata.nextLink"])
        assert [one["id"] for _, page in rest for one in page["value"]] == large[1:]


async def test_a_list_in_a_batch_may_use_the_room_that_other_requests_leave(
    small_answers: Api, large: list[str]
) -> None:
    requests = [
        {"id": str(number), "method": "GET", "url": "/communications/calls/none/operations"} for number in range(9)
    ]
    last = {"id": "list", "method": "GET", "url": COLLECTION, "dependsOn": [one["id"] for one in requests]}
    answer = await small_answers.post("/v1.0/$batch", json={"requests": [*requests, last]})
    value = answer.json["responses"][-1]["body"]["value"]
    assert [one["id"] for one in value] == large[: len(value)]
    assert len(value) == 5


# --- answers that nobody reads


class Reader:
    """A client that sends a request and does not read the answer."""

    def __init__(self, api: Api, path: str, token: str = "test-token") -> None:
        url = URL(api.url)
        self._address = (str(url.host), int(url.port or 0))
        self._request = f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"

    async def __aenter__(self) -> Self:
        """Connect with a small buffer, so that the system takes little of the answer."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, self._address)
        self._reader, self._writer = await asyncio.open_connection(sock=sock, limit=2**10)
        self._writer.write(self._request.encode())
        await self._writer.drain()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.transport.abort()

    async def rest(self) -> bytes:
        return await soon(self._reader.read())


@pytest.fixture
def budgets(budgets: list[Budgets], monkeypatch: pytest.MonkeyPatch) -> list[Budgets]:
    """The budgets of the APIs that the test opens. An answer that has no room is refused soon."""
    monkeypatch.setattr(answers, "PATIENCE", 0.05)
    return budgets


@asynccontextmanager
async def flooded(settings: Settings, budgets: list[Budgets]) -> AsyncIterator[tuple[Api, list[Reader]]]:
    """An API whose room for answers is held by readers of tenant `test` that do not read."""
    room = {"answer_bytes": 16 * 2**20, "answers_bytes": ROOM, "least_rate": 0}  # slow readers are not cut off
    async with asyncio.timeout(3 * LONGEST_WAIT), open_api(settings, **room) as api, AsyncExitStack() as stack:
        readers: list[Reader] = []
        while budgets[0].answers.held_by("test") < ROOM * 0.8:
            held = budgets[0].answers.held
            readers.append(await stack.enter_async_context(Reader(api, f"{COLLECTION}?$top=999")))
            await eventually(partial(has_grown, budgets[0], held))
        rest = 0
        while budgets[0].answers.take("test"):
            rest += 1
        try:
            yield api, readers
        finally:
            if rest:
                budgets[0].answers.give_back("test", rest)


async def has_grown(budgets: Budgets, before: int) -> bool:
    """Whether one more answer with all operations is made, and waits for its reader."""
    return budgets.answers.held > before + VERY_LARGE * LARGE


@pytest.fixture
async def very_large(store: Store) -> None:
    await asyncio.gather(*(store.create(make_record(members={"large": "x" * LARGE})) for _ in range(VERY_LARGE)))


async def test_readers_that_do_not_read_keep_no_more_than_the_budget(
    settings: Settings, budgets: list[Budgets], very_large: None
) -> None:
    async with flooded(settings, budgets) as (api, readers):
        assert budgets[0].answers.held <= ROOM
        answer = await api.get(COLLECTION)
        assert (answer.status, answer.error["code"]) == (503, "serviceUnavailable")
        assert int(answer.headers["Retry-After"]) >= 1
        other = await api.get(COLLECTION, token="other-token")
        assert (other.status, other.json["value"]) == (200, [])
        assert (await api.post(json={})).status == 201, "an answer that is short needs no room"
        whole = await readers[0].rest()
        assert whole.startswith(b"HTTP/1.1 200")
        assert whole.endswith(b"}")
    await eventually(lambda: is_empty(budgets[0]))
    assert very_large is None


async def has_room(budgets: Budgets) -> bool:
    return budgets.answers.held < ROOM / 4


async def is_empty(budgets: Budgets) -> bool:
    return budgets.answers.held == 0


async def test_readers_that_go_away_leave_their_room_to_others(
    settings: Settings, budgets: list[Budgets], very_large: None
) -> None:
    async with flooded(settings, budgets) as (api, readers):
        for reader in readers:
            await reader.__aexit__()
        await eventually(lambda: has_room(budgets[0]))
        assert (await api.get(COLLECTION)).status == 200
    assert very_large is None


async def test_a_large_answer_about_one_operation_is_counted_and_never_refused(
    settings: Settings, budgets: list[Budgets], store: Store
) -> None:
    record, _ = await store.create(make_record(members={"large": "\x7f" * 65_000}))
    async with open_api(settings, answers_bytes=2**20) as api:
        budgets[0].answers.count("test", 2**20)
        answer = await api.get(f"{COLLECTION}/{record.id}")
        assert (answer.status, len(answer.json["large"])) == (200, 65_000)
        assert (await api.request("HEAD", f"{COLLECTION}/{record.id}")).status == 200
        assert all(name in answer.headers for name in ("request-id", "OData-Version", "ETag"))
        budgets[0].answers.give_back("test", 2**20)
        await eventually(lambda: is_empty(budgets[0]))
