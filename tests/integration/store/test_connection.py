"""Connections that are broken or all in use."""

import asyncio
import os
import subprocess
import sys
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.processes import ROOT
from tests.support.waiting import LONGEST_WAIT
from tracker.config import Settings, load
from tracker.store.connection import open_redis


async def written_to_a_closed_connection() -> None:
    async with open_redis(load()) as redis:
        pool: Any = redis.connection_pool
        connection = await pool.get_connection()
        connection._writer.transport.abort()
        with pytest.raises(RedisConnectionError):
            await connection.send_command("PING")
        await pool.release(connection)
        assert await redis.ping()


def test_a_connection_that_is_closed_already_is_a_broken_one_with_uvloop_too(redis_url: str) -> None:
    """In a process of its own: uvloop leaves its marks on one."""
    code = f"import uvloop; from {__name__} import written_to_a_closed_connection as act; uvloop.run(act())"
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "REDIS_URL": redis_url}, cwd=ROOT)


async def test_a_caller_that_finds_no_free_connection_waits_for_one(settings: Settings) -> None:
    async with asyncio.timeout(LONGEST_WAIT), open_redis(settings, most=1) as redis:
        pool: Any = redis.connection_pool
        only = await pool.get_connection()
        waiting = asyncio.create_task(pool.get_connection())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        await pool.release(only)
        assert await waiting is only
        await pool.release(only)
        assert await asyncio.gather(*(redis.echo(str(number)) for number in range(5))) == list("01234")
