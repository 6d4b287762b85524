"""The store's Lua scripts: loaded when they are first used, and called with the names that their files declare.

`lua_modules` says how the files under `lua/` are put together.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import structlog
from redis import exceptions as redis_errors

from tracker.errors import Unavailable
from tracker.store.batching import Batcher
from tracker.store.keys import Keys
from tracker.store.lua_modules import compose, with_constants
from tracker.store.permissions import is_refusal

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger()

_AWAY = (
    *(redis_errors.ConnectionError, redis_errors.TimeoutError, TimeoutError, OSError),
    *(redis_errors.ReadOnlyError, redis_errors.MasterDownError, redis_errors.ClusterDownError),
    *(redis_errors.TryAgainError, redis_errors.OutOfMemoryError),
)
"""Errors of redis-py that mean that the server cannot serve a call now: it is away, fails over, or is full."""
_WRITE_PROBE = "#!lua\nreturn 1"
"""A script that writes nothing, but may write, as its first line says (Redis 7.0, "Eval script flags").

A server refuses to run it when it would refuse a write: at `maxmemory`, with a failing disk, as a replica, or with too
few replicas. A real write would have to be synced to disk, and clients without a token may ask for readiness.
"""
_AWAY_WORDS = ("MISCONF", "NOREPLICAS", "BUSY ", "UNKILLABLE")
"""Beginnings of error messages that mean the same, and for which redis-py has no class."""

Answer = Any


class StoreFull(Unavailable):
    """The server has reached its `maxmemory`."""


class Script:
    """One script. It is loaded when it is first used, and again when the server has lost it."""

    def __init__(
        self,
        name: str,
        redis: "Redis",
        keys: Keys,
        constants: Mapping[str, Any],
        pipeline: Batcher | None = None,
    ) -> None:
        composed = compose(name)
        self._keys = [getattr(keys, key) for key in composed.keys]
        self._arguments = [(argument.name, argument.variadic) for argument in composed.arguments]
        self.text = with_constants(composed.text, constants)
        """The script as the server gets it."""
        self._script = redis.register_script(self.text)
        self._pipeline = Batcher(redis, within=HANGS_AFTER) if pipeline is None else pipeline
        self.name = name

    @property
    def sha(self) -> str:
        """The digest by which the server knows the script."""
        return self._script.sha

    async def __call__(self, **named: Any) -> Answer:
        """Run the script with the arguments that its file names. Raises Unavailable when Redis cannot answer now."""
        args = self._in_order(named)
        async with answering():
            return await self._script(keys=self._keys, args=args)

    async def together(self, **named: Any) -> Answer:
        """Run the script. All calls of this method in one turn of the event loop share a round trip."""
        return await self._answered(self._pipeline.call(self._script, self._keys, self._in_order(named)))

    async def each(self, many: Sequence[list[str]]) -> list[Answer]:
        """Run the script for `MOST_TOGETHER` operations at most. `many` has the arguments for each operation.

        All calls of this method in one turn of the event loop share one EVALSHA. The script must have one variadic
        argument and no other. Its reply must be a list with an element for each operation.
        """
        found: list[Answer] = await self._answered(self._pipeline.join(self._script, self._keys, many))
        return found

    async def _answered(self, answer: "asyncio.Future[Answer]") -> Answer:
        try:
            return await answer
        except asyncio.CancelledError:
            self._pipeline.leave()
            raise
        except (*_AWAY, redis_errors.ResponseError) as error:
            if unavailable := _as_unavailable(error):
                raise unavailable from error
            raise

    def _in_order(self, named: dict[str, Any]) -> list[Any]:
        """The arguments in the order of the script's file."""
        args: list[Any] = []
        for name, variadic in self._arguments:
            value = named.pop(name)
            if variadic:
                args.extend(value)
            else:
                args.append(value)
        if named:
            raise TypeError(f"{self.name}.lua takes no {', '.join(named)}")
        return args


class Scripts:
    """All scripts of the store, over one connection pool."""

    def __init__(self, redis: "Redis", keys: Keys, constants: Mapping[str, Any]) -> None:
        pipeline = Batcher(redis, within=HANGS_AFTER)
        self.turn = pipeline.turn
        self._scripts: list[Script] = []

        def script(name: str) -> Script:
            self._scripts.append(Script(name, redis, keys, constants, pipeline))
            return self._scripts[-1]

        self.create = script("create")
        self.read_by_public_id = script("read_by_public_id")
        self.read_page = script("read_page")
        self.read_records = script("read_records")
        self.claim = script("claim")
        self.beat = script("beat")
        self.change = script("change")
        self.find_overdue = script("find_overdue")
        self.expire = script("expire")
        self.take_lock = script("take_lock")
        self._redis, self._probe, self._key = redis, redis.register_script(_WRITE_PROBE), keys.sweeper

    async def loaded(self) -> None:
        """Make sure that the server has every script, and would run them. Raises Unavailable when it would not."""
        async with answering():
            await self._probe(keys=[self._key])
            present = await self._redis.script_exists(*(script.sha for script in self._scripts))
            for script, is_there in zip(self._scripts, present, strict=True):
                if not is_there:
                    await self._redis.script_load(script.text)


HANGS_AFTER = 7.0
"""The longest time until a reply, in seconds. Then the server counts as away, even if redis-py still tries."""


@asynccontextmanager
async def answering(*, within: float | None = HANGS_AFTER) -> AsyncIterator[None]:
    """Raise Unavailable when Redis cannot serve the body now. Every other error of Redis is a bug, and stays.

    `within` is the longest time in seconds; None is for subscriptions, which have no limit.
    """
    try:
        async with asyncio.timeout(within):
            yield
    except (*_AWAY, redis_errors.ResponseError) as error:
        if unavailable := _as_unavailable(error):
            raise unavailable from error
        raise


def _as_unavailable(error: Exception) -> Unavailable | None:
    if isinstance(error, redis_errors.OutOfMemoryError):
        return StoreFull("The store is full (maxmemory is reached): it can be read, and takes no new data.")
    if isinstance(error, _AWAY):
        return Unavailable("The store is not reachable at the moment.")
    if is_refusal(error):
        log.error("store_refuses", reason=str(error), advice="Give the user of REDIS_URL this permission.")
        return Unavailable("The store refuses this to the service. The service's log says what it refuses.")
    if isinstance(error, redis_errors.ResponseError) and str(error).startswith(_AWAY_WORDS):
        return Unavailable("The store does not accept this at the moment.")
    return None
