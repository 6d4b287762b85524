"""What REDIS_URL may say."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from tests.support.waiting import LONGEST_WAIT
from tracker.config import Settings, load
from tracker.errors import ConfigurationError
from tracker.store.connection import open_blocking, open_redis

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "url",
    [
        "sentinel://one:1",
        "sentinel://one:1/",
        "sentinel:///contoso",
        "sentinel://one:port/contoso",
        "sentinel://one:99999999/contoso",
        "sentinel://one:1,/contoso",
        "sentinel://one:1/contoso/zero",
        "sentinel://one:1/contoso?db=1",
        "sentinel://:secret@one:1",
    ],
)
def test_a_sentinel_url_that_is_none_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    for opened in (open_redis, open_blocking):
        with pytest.raises(ConfigurationError, match="REDIS_URL") as raised:
            opened(load())
        assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("sentinel://me:secret@one:1,[::1]:2/contoso/3", "sentinel://one:1,[::1]:2/contoso/3"),
        ("redis://me:s@cret@one:1/0?db=2", "redis://one:1/0"),
        ("redis://one:1/0", "redis://one:1/0"),
        ("unix://:secret@/run/a@b.sock?db=1", "unix:///run/a@b.sock"),
    ],
)
def test_logs_show_an_address_without_its_password(url: str, address: str) -> None:
    settings = Settings.model_construct(redis_url=url)
    assert settings.redis_address == address
    open_redis(settings)
    open_blocking(settings)


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


async def test_who_finds_no_connection_left_waits_for_one(settings: Settings) -> None:
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


@pytest.mark.parametrize("url", ["redis://h:port/0", "redis://h:99999999/0", "http://h"])
def test_a_redis_url_that_is_none_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    with pytest.raises(ConfigurationError, match="REDIS_URL"):
        open_redis(load())
