"""Connections to Redis, directly or by Sentinel, that stay with the master.

The classes below subclass redis-py's connections and pools, whose methods are not public API. So `pyproject.toml` pins
redis-py to one major version. Each class says what it changes, and why.
"""

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
from redis.exceptions import MaxConnectionsError, MovedError, ReadOnlyError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.retry import Retry as BlockingRetry

from tracker.errors import ConfigurationError

if TYPE_CHECKING:
    from tracker.config import Settings

MOST_CONNECTIONS = 64
"""How many connections a client opens at most."""
ANSWER_WITHIN = 5.0
"""The longest time to connect, and to wait for a reply, in seconds. After that Redis counts as away."""
SENTINEL_WITHIN = 1.0
"""The longest time to connect to one Sentinel, and to wait for its reply, in seconds. Then the next one is asked."""
SENTINEL_PORT = 26379
_SERIALIZER = HiredisRespSerializer()
_OF_ONE_WORD = frozenset({"EVALSHA", "HGETALL"})
"""Frequent commands whose name is one word. redis-py splits names of two words ("SCRIPT LOAD") before packing."""
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
    """A client with a pool of its own, of at most `most` connections. It connects when it is first used.

    A command whose connection is broken, or whose server is a replica, is sent again at most twice on a new connection.
    So a short restart of Redis, or a failover that is over, fails no request. All scripts may be repeated. Raises
    ConfigurationError for a malformed URL.
    """
    try:
        return _open(settings.redis_url, most)
    except ValueError as error:
        raise ConfigurationError(f"REDIS_URL: {error}") from None


def open_blocking(settings: "Settings", *, within: float = ANSWER_WITHIN, tries: int = _TRIES) -> "blocking.Redis":
    """A client without an event loop, for RQ and for checks at start. It connects when it is first used.

    `within` is the longest time to connect, and to wait for a reply, in seconds. A command that fails is sent again
    `tries` times. Raises ConfigurationError for a malformed URL.
    """
    times = {"socket_timeout": within, "socket_connect_timeout": within}
    options: dict[str, Any] = {**times, "retry": BlockingRetry(_BACKOFF, tries)}
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
        "encoding_errors": "surrogateescape",  # else a text that is no UTF-8 would break off all replies after it, too
        "retry": Retry(_BACKOFF, _TRIES),
        "retry_on_error": [RedisConnectionError],
    }
    if not url.startswith("sentinel://"):
        return Redis.from_pool(_Pool.from_url(url, **options))
    named = _read(url)
    asking = {**_SENTINEL_TIMES, "retry": Retry(NoBackoff(), 0)}
    sentinels = _Sentinel(named.sentinels, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    managed = type("SentinelConnection", (_Writing, SentinelManagedConnection), {})
    pool = _SentinelPool(named.master, sentinels, connection_class=managed, **options, **named.database)  # type: ignore[no-untyped-call]
    return Redis.from_pool(pool)


class _Pool(BlockingConnectionPool):
    """A pool that leaves a server which has become a replica, and that hands out free connections at once.

    When the address is a proxy or a DNS name, the next connection reaches the master. A node of a cluster says where
    the master is (MOVED), and the next connection is to that node. While neither it nor the configured address can be
    reached, both are tried in turn.
    """

    def __init__(self, *, connection_class: type[AbstractConnection] = Connection, **options: Any) -> None:
        own_class = type(connection_class.__name__, (_Leaving, _Packing, _Writing, connection_class), {})
        self.moved_to: tuple[str, int] | None = None
        """The node of a cluster to connect to; None for the configured address."""
        self.last_moved_to: tuple[str, int] | None = None
        """The node that has taken over last, as another node of the cluster has said."""
        super().__init__(connection_class=own_class, pool=ref(self), **options)

    async def get_connection(self, *about: Any, **options: Any) -> AbstractConnection:
        """A connection. A free one is returned at once.

        Plain code is redis-py's own method, which starts a timer and yields to the loop even when a connection is free
        (benchmarks.api: read one).
        """
        with suppress(MaxConnectionsError):
            if self.can_get_connection():
                connection: AbstractConnection = await ConnectionPool.get_connection(self, *about, **options)  # type: ignore[no-untyped-call]
                return connection
        waited: AbstractConnection = await super().get_connection(*about, **options)  # type: ignore[no-untyped-call]
        return waited

    async def leave(self) -> None:
        """Close idle connections now, and others when they are released. They would read from the replica."""
        await self.update_active_connections_for_reconnect()  # type: ignore[no-untyped-call]
        await self.disconnect(inuse_connections=False)


class _Leaving(AbstractConnection):
    """A connection that treats READONLY and MOVED as a broken connection.

    redis-py's Sentinel connections do the same with READONLY.
    """

    host: str
    port: int

    def __init__(self, *, pool: "ref[_Pool]", **options: Any) -> None:
        super().__init__(**options)
        self._pool = pool

    async def connect_check_health(self, *args: Any, **options: Any) -> None:
        """Connect, log in and select the database. Raises ConnectionError for everything that the server refuses then.

        redis-py raises ResponseError, for example for a database that does not exist. A caller would take that for an
        error of its command.
        """
        tried = self._follow()
        try:
            await super().connect_check_health(*args, **options)
        except (RedisConnectionError, RedisTimeoutError, ResponseError) as error:
            if (pool := self._pool()) and pool.moved_to == tried:  # the next attempt is at the other address
                pool.moved_to = None if tried else pool.last_moved_to
            if isinstance(error, ResponseError):
                raise RedisConnectionError(str(error)) from error
            raise

    def _follow(self) -> tuple[str, int] | None:
        """Connect to the node that has taken over, or else to the configured address. Returns that node."""
        pool = self._pool()
        if pool is None or not hasattr(self, "host"):  # a Unix socket has none
            return None
        options = pool.connection_kwargs
        self.host, self.port = pool.moved_to or (options.get("host", "localhost"), options.get("port", 6379))
        return pool.moved_to

    async def read_response(self, *args: Any, **options: Any) -> Any:
        """Read a reply. Raises ConnectionError when the reply says that the server is not the master.

        An error loses its traceback so far: redis-py's frame in it holds the error, and only a full garbage collection
        would free the two, with the frames of the request that reads the reply.
        """
        try:
            return await super().read_response(*args, **options)
        except (ReadOnlyError, MovedError) as error:
            await self.disconnect()
            if pool := self._pool():
                if isinstance(error, MovedError):
                    pool.moved_to = pool.last_moved_to = (error.host or getattr(self, "host", ""), error.port)
                await pool.leave()
            raise RedisConnectionError(str(error)) from error
        except ResponseError as error:
            raise error.with_traceback(None)  # noqa: B904 - it is the same error


class _Writing(AbstractConnection):
    """A connection that writes without a task of its own, and reports uvloop's error for a closed connection.

    Plain code is redis-py's own method, which makes a task for each write with a time limit (benchmarks.api: read one,
    create). The limit is not needed: whoever sends a command has a limit for the command and its answer
    (`scripts.answering`, `Batcher`).
    """

    async def send_packed_command(self, *args: Any, **options: Any) -> None:
        """Write commands. Raises ConnectionError when the connection has been closed."""
        limit = self.socket_timeout
        if self.is_connected:  # a connection that is not open connects first, and needs the limit for that
            self.socket_timeout = None
        try:
            await super().send_packed_command(*args, **options)
        except RuntimeError as error:
            raise RedisConnectionError(str(error)) from error
        finally:
            self.socket_timeout = limit


class _Packing(AbstractConnection):
    """A connection that packs commands by hiredis, as redis-py's blocking connections do.

    Plain code is redis-py's own packing for asyncio. It takes twelve times as long for a script call with 60 arguments
    (benchmarks.api: create, $batch).
    """

    def pack_command(self, *args: Any) -> list[bytes]:
        """Pack one command."""
        if args[0] in _OF_ONE_WORD:
            return [pack_command(args)]
        packed: list[bytes] = _SERIALIZER.pack(*args)
        return packed

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:
        """Pack several commands into one text."""
        return [b"".join(piece for command in commands for piece in self.pack_command(*command))]


class _Sentinel(Sentinel):
    """Sentinels whose error for a missing master is one sentence. redis-py's own error lists every client."""

    async def discover_master(self, service_name: str) -> Any:
        """The master's host and port. Raises MasterNotFoundError, a ConnectionError."""
        try:
            return await super().discover_master(service_name)
        except MasterNotFoundError as error:
            raise MasterNotFoundError(_NO_MASTER.format(service_name)) from error


class _BlockingSentinel(blocking_sentinel.Sentinel):
    """`_Sentinel` without an event loop."""

    def discover_master(self, service_name: str) -> Any:
        """The master's host and port. Raises MasterNotFoundError, a ConnectionError."""
        try:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]
        except blocking_sentinel.MasterNotFoundError as error:
            raise blocking_sentinel.MasterNotFoundError(_NO_MASTER.format(service_name)) from error


class _SentinelPool(SentinelConnectionPool, BlockingConnectionPool):
    """A pool that asks Sentinel for the master at each connect, and waits for a free connection."""

    async def aclose(self) -> None:
        """Close all connections, also those to the Sentinels."""
        await super().aclose()
        await self.sentinel_manager.aclose()


class _Named(NamedTuple):
    """The parts of a sentinel:// URL: the Sentinels, the name of the master, and the options to connect to it."""

    sentinels: list[tuple[str, int]]
    master: str
    database: dict[str, Any]


def _read(url: str) -> _Named:
    """Read a sentinel:// URL. Raises ValueError when it is malformed."""
    found = _SENTINEL_URL.fullmatch(url)
    hosts = [urlsplit(f"//{host}") for host in found["hosts"].split(",")] if found else []
    sentinels = [(host.hostname, host.port or SENTINEL_PORT) for host in hosts if host.hostname]
    if found is None or len(sentinels) < len(hosts):
        raise ValueError("must be sentinel://[user:password@]host:26379,host:26379/<master name>[/<database>]")
    login = {name: unquote(found[name]) for name in ("username", "password") if found[name]}
    return _Named(sentinels, unquote(found["master"]), {"db": int(found["db"] or 0), **login})
