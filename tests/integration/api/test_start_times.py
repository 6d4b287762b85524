"""`delay` and `notBefore`: operations that start later."""

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from tests.support.api_client import COLLECTION, Api, open_api
from tests.support.clock import Clock
from tests.support.records import claim
from tests.support.scheduling import done, take
from tests.support.waiting import eventually
from tracker.config import Settings
from tracker.domain.operation import Json
from tracker.domain.transitions import Stage
from tracker.domain.type_registry import COMMS_OPERATION, canonical
from tracker.store.store import Store

HOUR = 3600


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[Api]:
    """It sweeps, as every API process does."""
    async with open_api(settings) as api:
        yield api


async def startable(store: Store) -> int:
    """How many operations a worker could begin now."""
    begun = await take(store, kinds={canonical(COMMS_OPERATION): "coroutines"})
    await done(store, *begun)
    return len(begun)


def soon(operation: Json) -> str:
    """An hour after that operation was made."""
    return (datetime.fromisoformat(operation["createdDateTime"]) + timedelta(seconds=HOUR)).isoformat()


@pytest.mark.parametrize("body", [{"delay": HOUR}, {"delay": "1h"}, {"delay": "PT1H"}, {"notBefore": "soon"}], ids=str)
async def test_an_operation_waits_until_its_time_and_then_runs(
    api: Api, store: Store, clock: Clock, body: dict[str, Any]
) -> None:
    first = await api.created()
    assert await startable(store) == 1
    operation = await api.created(**{name: soon(first) if value == "soon" else value for name, value in body.items()})
    path = f"{COLLECTION}/{operation['id']}"
    starts, made = (datetime.fromisoformat(operation[name]) for name in ("notBeforeDateTime", "createdDateTime"))
    assert abs((starts - made).total_seconds() - HOUR) < 30
    assert not body.keys() & operation.keys(), "what was asked for is no member"
    await clock.advance(HOUR - 60)
    assert await startable(store) == 0
    assert (await api.get(path)).json["status"] == "NotStarted"

    await clock.advance(61)

    async def queued() -> bool:
        return (await store.find("test", operation["id"])).stage is Stage.QUEUED

    await eventually(queued)
    await claim(store, await store.find("test", operation["id"]))
    running = (await api.get(path)).json
    assert (running["status"], running["notBeforeDateTime"]) == ("Running", operation["notBeforeDateTime"])
    assert running["startedDateTime"] >= running["notBeforeDateTime"]


async def test_a_delayed_operation_can_be_canceled(api: Api, store: Store) -> None:
    operation = await api.created(delay=HOUR)
    answer = await api.post(f"{COLLECTION}/{operation['id']}/cancel")
    assert (answer.status, answer.json["status"]) == (202, "Failed")
    assert await startable(store) == 0


@pytest.mark.parametrize("body", [{"delay": 0}, {"delay": None}, {"notBefore": "2001-01-01T00:00:00Z"}], ids=str)
async def test_an_operation_without_a_delay_shows_none(api: Api, store: Store, body: dict[str, Any]) -> None:
    assert "notBeforeDateTime" not in await api.created(**body)
    assert await startable(store) == 1


async def test_the_delay_is_part_of_the_request_that_is_compared(api: Api) -> None:
    first = await api.post(json={"id": "mine", "delay": "1h"})
    again = await api.post(json={"id": "mine", "delay": "1h"})
    other = await api.post(json={"id": "mine", "delay": "2h"})
    assert (first.status, again.status, other.status) == (201, 200, 409)
    assert again.json == first.json


async def test_a_fetched_operation_can_be_sent_again(api: Api) -> None:
    """Read-only members in a body are ignored, this one too."""
    operation = await api.created(delay=HOUR)
    again = await api.created(**{**operation, "id": "another"})
    assert "notBeforeDateTime" not in again


@pytest.mark.parametrize(
    ("body", "targets"),
    [
        ({"delay": "soon"}, {"delay"}),
        ({"delay": -1}, {"delay"}),
        ({"delay": "367d"}, {"delay"}),
        ({"notBefore": "2026-01-31T12:00:00"}, {"notBefore"}),
        ({"notBefore": "2526-01-31T12:00:00Z", "delay": True}, {"delay", "notBefore"}),
    ],
)
async def test_a_delay_that_is_not_possible_is_refused(api: Api, body: dict[str, Any], targets: set[str]) -> None:
    answer = await api.post(json=body)
    assert (answer.status, answer.error["code"]) == (400, "badRequest")
    assert {detail["target"] for detail in answer.error["details"]} == targets


async def test_the_description_names_both_members(api: Api) -> None:
    schemas = (await api.get("/openapi.json", token=None)).json["components"]["schemas"]
    properties = schemas["microsoft.graph.commsOperation-new"]["properties"]
    assert {"delay", "notBefore"} <= set(properties)
    assert schemas["anyOperation"]["properties"]["notBeforeDateTime"]["readOnly"] is True
