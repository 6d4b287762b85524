"""The store's Lua scripts: loaded when they are first used, and called with the names that their files declare.

`lua_modules` says how the files under `lua/` are put together.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from redis.exceptions import ResponseError

from tracker.errors import Unavailable
from tracker.store.batching import Batcher
from tracker.store.keys import Keys
from tracker.store.lua_modules import compose, with_constants
from tracker.store.server_errors import AWAY, as_unavailable

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger()

_WRITE_PROBE = "#!lua\nreturn 1"
"""A script that writes nothing, but may write, as its first line says (Redis 7.0, "Eval script flags").

A server refuses to run it when it would refuse a write: at `maxmemory`, with a failing disk, as a replica, or with too
few replicas. A real write would have to be synced to disk, and clients without a token may ask for readiness.
"""
Answer = Any


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
        self._keys, self._probed_key = [getattr(keys, key) for key in composed.keys], keys.sweeper
        self._arguments = [(argument.name, argument.variadic) for argument in composed.arguments]
        self.text = with_constants(composed.text, constants)
        """The script as the server gets it."""
        self._redis, self._script = redis, redis.register_script(self.text)
        self._pipeline = Batcher(redis, within=HANGS_AFTER) if pipeline is None else pipeline
        self.name = name

    @property
    def sha(self) -> str:
        """The digest by which the server knows the script."""
        return self._script.sha

    async def __call__(self, **named: Any) -> Answer:
        """Run the script with the arguments that its file names. Raises Unavailable when Redis cannot answer now."""
        return await self._answered(partial(self._call_alone, self._in_order(named)))

    async def together(self, **named: Any) -> Answer:
        """Run the script. All calls of this method in one turn of the event loop share a round trip."""
        return await self._answered(partial(self._pipeline.call, self._script, self._keys, self._in_order(named)))

    async def each(self, many: Sequence[list[str]]) -> list[Answer]:
        """Run the script for `MOST_TOGETHER` operations at most. `many` has the arguments for each operation.

        All calls of this method in one turn of the event loop share one EVALSHA. The script must have one variadic
        argument and no other. Its reply must be a list with an element for each operation.
        """
        found: list[Answer] = await self._answered(partial(self._pipeline.join, self._script, self._keys, many))
        return found

    async def _call_alone(self, args: list[Any]) -> Answer:
        async with answering():
            return await self._script(keys=self._keys, args=args)

    async def _answered(self, send: Callable[[], Awaitable[Answer]]) -> Answer:
        """The reply to a call. After an error that may be the fault of the call, the server is checked.

        If the server accepts writes, the call is sent once more. An error of this second call is the fault of the call.
        """
        try:
            return await self._reply(send)
        except ResponseError:
            await check_accepts_writes(self._redis, self._probed_key)
        return await self._reply(send)

    async def _reply(self, send: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            return await send()
        except asyncio.CancelledError:
            self._pipeline.leave()
            raise
        except (*AWAY, ResponseError) as error:
            if unavailable := as_unavailable(error):
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
        self.clock_jumped, self.shift_times = script("clock_jumped"), script("shift_times")
        self._redis, self._key = redis, keys.sweeper

    async def loaded(self) -> None:
        """Make sure that the server has every script, and would run them. Raises Unavailable when it would not."""
        await check_accepts_writes(self._redis, self._key)
        async with answering():
            present = await self._redis.script_exists(*(script.sha for script in self._scripts))
            for script, is_there in zip(self._scripts, present, strict=True):
                if not is_there:
                    await self._redis.script_load(script.text)


async def check_accepts_writes(redis: "Redis", key: str) -> None:
    """Check that the server answers, and would accept a write to the key. Raises Unavailable when it does not."""
    try:
        async with answering():
            await redis.ping()
            await redis.register_script(_WRITE_PROBE)(keys=[key])
    except ResponseError as error:
        log.error("store_error", reason=str(error))  # noqa: TRY400 - the reason says it all
        raise Unavailable("The store answers with an error. The service's log has it.") from error


HANGS_AFTER = 7.0
"""The longest time until a reply, in seconds. Then the server counts as away, even if redis-py still tries."""


@asynccontextmanager
async def answering(*, within: float | None = HANGS_AFTER) -> AsyncIterator[None]:
    """Raise Unavailable when Redis cannot serve the body now. An error that may be the fault of the body stays.

    `within` is the longest time in seconds; None is for subscriptions, which have no limit.
    """
    try:
        async with asyncio.timeout(within):
            yield
    except (*AWAY, ResponseError) as error:
        if unavailable := as_unavailable(error):
            raise unavailable from error
        raise
