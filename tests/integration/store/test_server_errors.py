"""Unknown error replies of Redis: the server is checked, and the call is sent once more."""

import asyncio
from math import inf
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import ResponseError

from tests.support.redis_servers import Server
from tracker.config import Settings
from tracker.errors import Unavailable
from tracker.store.batching import Batcher
from tracker.store.connection import open_redis
from tracker.store.script_constants import script_constants
from tracker.store.scripts import HANGS_AFTER, Script
from tracker.store.store import Store


class Failing(Batcher):
    """Calls that Redis answers with an error, a number of times."""

    def __init__(self, redis: Redis, times: float) -> None:
        super().__init__(redis, within=HANGS_AFTER)
        self.times = times

    def call(self, script: AsyncScript, keys: list[Any], args: list[Any]) -> asyncio.Future[Any]:
        if self.times <= 0:
            return super().call(script, keys, args)
        self.times -= 1
        failed = asyncio.get_running_loop().create_future()
        failed.set_exception(ResponseError("an error that nobody knows", status_code="ERR"))
        return failed


def beats(store: Store, pipeline: Batcher) -> Script:
    return Script("beat", store.redis, store.keys, script_constants(store.keys, test_clock=True), pipeline)


async def test_a_call_is_sent_again_after_an_unknown_error_if_the_server_is_well(store: Store) -> None:
    assert await beats(store, Failing(store.redis, 1)).together(lease=1, attempts=["a", 1]) == ["REFUSED"]


async def test_an_unknown_error_that_comes_again_though_the_server_is_well_is_the_fault_of_the_call(
    store: Store,
) -> None:
    with pytest.raises(ResponseError, match="nobody knows"):
        await beats(store, Failing(store.redis, inf)).together(lease=1, attempts=["a", 1])


async def test_an_unknown_error_of_a_server_that_refuses_writes_is_an_outage(away: Server) -> None:
    store = away.store
    await store.redis.config_set("min-replicas-to-write", "1")
    with pytest.raises(Unavailable, match="NOREPLICAS"):
        await beats(store, Failing(store.redis, inf)).together(lease=1, attempts=["a", 1])


async def test_a_database_that_does_not_exist_is_an_outage(settings: Settings) -> None:
    there_is_none = settings.model_copy(update={"redis_url": f"{settings.redis_url}?db=9999"})
    async with open_redis(there_is_none) as redis:
        with pytest.raises(Unavailable) as caught:
            await Store(redis, there_is_none).ready()
    assert "DB index is out of range" in str(caught.value.__cause__)
