"""Connections to Redis."""

from typing import TYPE_CHECKING

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from tracker.errors import ConfigurationError

if TYPE_CHECKING:
    from tracker.config import Settings

MOST_CONNECTIONS = 64
ANSWER_WITHIN = 5.0
"""Seconds for a connection, and for an answer on it, before Redis counts as away."""


def open_redis(settings: "Settings", *, most: int = MOST_CONNECTIONS) -> "Redis":
    """A client over its own pool; it connects when it is first used.

    A command that finds its connection broken is sent again twice, so that a restart of Redis costs no
    request; every script of ours may be repeated. Raises ConfigurationError for a URL that is none.
    """
    try:
        return _open(settings, most)
    except ValueError as error:
        raise ConfigurationError(f"REDIS_URL: {error}") from None


def _open(settings: "Settings", most: int) -> "Redis":
    pool = BlockingConnectionPool.from_url(
        settings.redis_url,
        max_connections=most,
        timeout=ANSWER_WITHIN,
        socket_timeout=ANSWER_WITHIN,
        socket_connect_timeout=ANSWER_WITHIN,
        health_check_interval=10,
        decode_responses=True,
        retry=Retry(ExponentialWithJitterBackoff(base=0.02, cap=0.25), 2),
        retry_on_error=[RedisConnectionError],
    )
    return Redis.from_pool(pool)
