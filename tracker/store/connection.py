"""Connections to Redis, directly or by way of Sentinel, that stay with the master."""

import re
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit
from weakref import ref

import redis as blocking
import redis.sentinel as blocking_sentinel
from hiredis import pack_command
from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection, Connection
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import (
    MasterNotFoundError,
    Sentinel,
    SentinelConnectionPool,
    SentinelManagedConnection,
)
from redis.backoff import ExponentialWithJitterBackoff, NoBackoff
from redis.connection import HiredisRespSerializer
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MaxConnectionsError, ReadOnlyError
from redis.retry import Retry as BlockingRetry

from tracker.errors import ConfigurationError

if TYPE_CHECKING:
    from tracker.config import Settings

MOST_CONNECTIONS = 64
ANSWER_WITHIN = 5.0
"""Seconds for a connection, and for an answer on it, before Redis counts as away."""
SENTINEL_WITHIN = 1.0
"""The same for one Sentinel, after which the next is asked."""
SENTINEL_PORT = 26379
_SERIALIZER = HiredisRespSerializer()
_OF_ONE_WORD = frozenset({"EVALSHA", "HGETALL"})
"""The commands of which there are many; redis-py takes others ("SCRIPT LOAD") apart first."""
_NO_MASTER = "no Sentinel answers that it has a master {} that is up"
_BACKOFF = ExponentialWithJitterBackoff(base=0.02, cap=0.25)
_TRIES = 2
_TIMES = {"socket_timeout": ANSWER_WITHIN, "socket_connect_timeout": ANSWER_WITHIN}
_SENTINEL_TIMES = {"socket_timeout": SENTINEL_WITHIN, "socket_connect_timeout": SENTINEL_WITHIN}
_SENTINEL_URL = re.compile(
    r"sentinel://(?:(?P<username>[^:@/]*)(?::(?P<password>[^@/]*))?@)?"
    r"(?P<hosts>[^@/?#]+)/(?P<master>[^/?#]+)(?:/(?P<db>\d+))?"
)


def open_redis(settings: "Settings", *, most: int = MOST_CONNECTIONS) -> "Redis":
    """A client over its own pool; it connects when it is first used.

    A command that finds its connection broken, or its server a replica, is sent again twice on a new connection,
    so that a restart of Redis or a failover that is over costs no request; every script of ours may be repeated.
    Raises ConfigurationError for a URL that is none.
    """
    try:
        return _open(settings.redis_url, most)
    except ValueError as error:
        raise ConfigurationError(f"REDIS_URL: {error}") from None


def open_blocking(settings: "Settings") -> "blocking.Redis":
    """A client without a loop, for RQ and for a first look; it connects when it is first used.

    Raises ConfigurationError for a URL that is none.
    """
    options: dict[str, Any] = {**_TIMES, "retry": BlockingRetry(_BACKOFF, _TRIES)}
    try:
        if not settings.redis_url.startswith("sentinel://"):
            return blocking.Redis.from_url(settings.redis_url, **options)
        named = _read(settings.redis_url)
    except ValueError as error:
        raise ConfigurationError(f"REDIS_URL: {error}") from None
    asking = {**_SENTINEL_TIMES, "retry": BlockingRetry(NoBackoff(), 0)}
    sentinels = _BlockingSentinel(named.sentinels, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    client: blocking.Redis = sentinels.master_for(named.master, **options, **named.database)  # type: ignore[no-untyped-call]
    return client


def _open(url: str, most: int) -> "Redis":
    options: dict[str, Any] = {
        "max_connections": most,
        "timeout": ANSWER_WITHIN,
        **_TIMES,
        "health_check_interval": 10,
        "decode_responses": True,
        "retry": Retry(_BACKOFF, _TRIES),
        "retry_on_error": [RedisConnectionError],
    }
    if not url.startswith("sentinel://"):
        return Redis.from_pool(_Pool.from_url(url, **options))
    named = _read(url)
    asking = {**_SENTINEL_TIMES, "retry": Retry(NoBackoff(), 0)}
    sentinels = _Sentinel(named.sentinels, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    kind = type("SentinelConnection", (_Writing, SentinelManagedConnection), {})
    pool = _SentinelPool(named.master, sentinels, connection_class=kind, **options, **named.database)  # type: ignore[no-untyped-call]
    return Redis.from_pool(pool)


class _Pool(BlockingConnectionPool):
    """Leaves a server that has become a replica: behind a proxy or a name the next connection finds the master."""

    def __init__(self, *, connection_class: type[AbstractConnection] = Connection, **options: Any) -> None:
        kind = type(connection_class.__name__, (_Leaving, _Packing, _Writing, connection_class), {})
        super().__init__(connection_class=kind, pool=ref(self), **options)

    async def get_connection(self, *about: Any, **options: Any) -> AbstractConnection:
        """A connection: at once while there are more, without the timer and the turn of those who have to wait."""
        with suppress(MaxConnectionsError):
            if self.can_get_connection():
                connection: AbstractConnection = await ConnectionPool.get_connection(self, *about, **options)  # type: ignore[no-untyped-call]
                return connection
        waited: AbstractConnection = await super().get_connection(*about, **options)  # type: ignore[no-untyped-call]
        return waited

    async def leave(self) -> None:
        """Close the idle connections now, and those in use when they come back: reads would be of the replica."""
        await self.update_active_connections_for_reconnect()  # type: ignore[no-untyped-call]
        await self.disconnect(inuse_connections=False)


class _Leaving(AbstractConnection):
    """Takes READONLY for a broken connection, as redis-py's connections by way of Sentinel do."""

    def __init__(self, *, pool: "ref[_Pool]", **options: Any) -> None:
        super().__init__(**options)
        self._pool = pool

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Read an answer. Raises ConnectionError when it is that the server is a replica."""
        try:
            return await super().read_response(*args, **options)
        except ReadOnlyError as error:
            await self.disconnect()
            if pool := self._pool():
                await pool.leave()
            raise RedisConnectionError(str(error)) from error


class _Writing(AbstractConnection):
    """Writes at once, and takes uvloop's error at writing to a closed connection for what it is.

    redis-py makes a task of every write that has a time limit. A write has to wait only when much is unsent, and
    whoever sends has a limit for all of it (`scripts.answering`, `Pipeline`).
    """

    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        """Write. Raises ConnectionError when the connection has been closed."""
        limit = self.socket_timeout
        if self.is_connected:  # else it connects first, which the limit is for
            self.socket_timeout = None
        try:
            await super().send_packed_command(*args, **options)
        except RuntimeError as error:
            raise RedisConnectionError(str(error)) from error
        finally:
            self.socket_timeout = limit


class _Packing(AbstractConnection):
    """Writes commands by hiredis, as redis-py's blocking connections do: five times as fast as its own."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """One command as it is sent."""
        if args[0] in _OF_ONE_WORD:
            return [pack_command(args)]
        packed: list[bytes] = _SERIALIZER.pack(*args)
        return packed

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:
        """Many commands as they are sent."""
        return [b"".join(piece for command in commands for piece in self.pack_command(*command))]


class _Sentinel(Sentinel):
    """Says in a few words that there is no master; redis-py's own error describes every client in full."""

    async def discover_master(self, service_name: str) -> Any:
        """The master's host and port. Raises MasterNotFoundError, a ConnectionError."""
        try:
            return await super().discover_master(service_name)
        except MasterNotFoundError as error:
            raise MasterNotFoundError(_NO_MASTER.format(service_name)) from error


class _BlockingSentinel(blocking_sentinel.Sentinel):
    """The same, without a loop."""

    def discover_master(self, service_name: str) -> Any:
        """The master's host and port. Raises MasterNotFoundError, a ConnectionError."""
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except blocking_sentinel.MasterNotFoundError as error:
            raise blocking_sentinel.MasterNotFoundError(_NO_MASTER.format(service_name)) from error


class _SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """Asks Sentinel for the master whenever it connects, and waits for a free connection as the other pool does."""

    async def aclose(self) -> None:
        """Close the connections, those to the Sentinels too."""
        await super().aclose()
        await self.sentinel_manager.aclose()


class _Named(NamedTuple):
    """What a sentinel:// URL names: Sentinels, the master as they call it, and what to connect to it with."""

    sentinels: list[tuple[str, int]]
    master: str
    database: dict[str, Any]


def _read(url: str) -> _Named:
    """Read a sentinel:// URL. Raises ValueError when it is none."""
    found = _SENTINEL_URL.fullmatch(url)
    hosts = [urlsplit(f"//{host}") for host in found["hosts"].split(",")] if found else []
    sentinels = [(host.hostname, host.port or SENTINEL_PORT) for host in hosts if host.hostname]
    if found is None or len(sentinels) < len(hosts):
        raise ValueError("must be sentinel://[user:password@]host:26379,host:26379/<master name>[/<database>]")
    login = {name: unquote(found[name]) for name in ("username", "password") if found[name]}
    return _Named(sentinels, unquote(found["master"]), {"db": int(found["db"] or 0), **login})
