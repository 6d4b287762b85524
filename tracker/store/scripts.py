"""Lua scripts whose header is their signature.

A header names what a script takes, one line each:

    -- KEYS op        HASH    the operation
    -- ARGV attempt   int     attempt the caller read
    -- ARGV fields    ...     field, value, field, value, ... to set

From it come the script's first lines (`local op = KEYS[1]`, `local attempt = ARGV[1]`, …), so the comment cannot
drift, and a call takes exactly these names. Keys that are the same for every call are bound from `Keys` by name.
`-- INCLUDE name` pulls in another file once, with the names of its header. Constants (`C.window`, …) are
written into the script's text, those that it names: each call makes them anew.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from redis import exceptions as redis_errors

from tracker.errors import Unavailable
from tracker.store.batching import Batcher
from tracker.store.keys import Keys

if TYPE_CHECKING:
    from redis.asyncio import Redis

LUA = Path(__file__).parent / "lua"
_HEADER = re.compile(r"^-- (KEYS|ARGV) (\w+)\s+(\S+)", re.MULTILINE)
_CONSTANT = re.compile(r"\bC\.(\w+)")
_INCLUDE = re.compile(r"^-- INCLUDE (\w+)$", re.MULTILINE)
_AWAY = (
    *(redis_errors.ConnectionError, redis_errors.TimeoutError, TimeoutError, OSError),
    *(redis_errors.ReadOnlyError, redis_errors.MasterDownError, redis_errors.ClusterDownError),
    *(redis_errors.TryAgainError, redis_errors.OutOfMemoryError),
)
"""What redis-py raises when the server cannot serve this now: away, failing over, or full."""
_AWAY_WORDS = ("MISCONF", "NOREPLICAS", "BUSY ", "UNKILLABLE")
"""The same, where redis-py has no class of its own."""

Answer = Any


class Script:
    """One script, loaded on first use and again whenever the server lost it."""

    def __init__(
        self,
        name: str,
        redis: "Redis",
        keys: Keys,
        constants: Mapping[str, Any],
        pipeline: Batcher | None = None,
    ) -> None:
        source = _expand((LUA / f"{name}.lua").read_text())
        parameters = _HEADER.findall(source)
        self._keys = [word for kind, word, _ in parameters if kind == "KEYS"]
        self._args = [(word, form == "...") for kind, word, form in parameters if kind == "ARGV"]
        same = vars(keys)
        self._bound = {word: same[word] for word in self._keys if word in same}
        self._same_keys = list(self._bound.values())
        used = {name: constants[name] for name in sorted({*_CONSTANT.findall(source)})}
        self._script = redis.register_script("\n".join([*self._preamble(), _constants(used), source]))
        self._pipeline = Batcher(redis, within=HANGS_AFTER) if pipeline is None else pipeline
        self.name = name

    def _preamble(self) -> list[str]:
        lines = [f"local {word} = KEYS[{index}]" for index, word in enumerate(self._keys, 1)]
        for index, (word, variadic) in enumerate(self._args, 1):
            lines.append(f"local {word} = {index}" if variadic else f"local {word} = ARGV[{index}]")
        return lines

    async def __call__(self, **named: Any) -> Answer:
        """Run it with exactly the header's names. Raises Unavailable when Redis cannot answer now."""
        keys, args = self._words(named)
        async with answering():
            return await self._script(keys=keys, args=args)

    async def together(self, **named: Any) -> Answer:
        """Run it as a call does, in one round trip with all that is asked for in the same turn of the loop."""
        return await self._answered(self._pipeline.call(self._script, *self._words(named)))

    async def each(self, many: Sequence[list[str]]) -> list[Answer]:
        """Have it done for each of these, `MOST_TOGETHER` at most, by one run for all that is asked of it in a turn.

        Its keys are the same for every call; it takes nothing but what it is to do for each, and answers a list with an
        element for each.
        """
        found: list[Answer] = await self._answered(self._pipeline.join(self._script, self._same_keys, many))
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

    def _words(self, named: dict[str, Any]) -> tuple[list[Any], list[Any]]:
        """Keys and arguments in the header's order, from exactly its names."""
        keys = [self._bound.get(word) or named.pop(word) for word in self._keys]
        args: list[Any] = []
        for word, variadic in self._args:
            value = named.pop(word)
            if variadic:
                args.extend(value)
            else:
                args.append(value)
        if named:
            raise TypeError(f"{self.name}.lua takes no {', '.join(named)}")
        return keys, args


class Scripts:
    """All scripts of this service, over one connection pool."""

    def __init__(self, redis: "Redis", keys: Keys, constants: Mapping[str, Any]) -> None:
        pipeline = Batcher(redis, within=HANGS_AFTER)
        self.turn = pipeline.turn
        self._scripts = [
            Script(name, redis, keys, constants, pipeline)
            for name in (
                "create",
                "read_by_public_id",
                "read_page",
                "claim",
                "beat",
                "change",
                "find_overdue",
                "expire",
            )
        ]
        self.create, self.read_by_public_id, self.read_page, *others = self._scripts
        self.claim, self.beat, self.change, self.find_overdue, self.expire = others
        self._redis = redis

    async def loaded(self) -> None:
        """Make sure that the server has every script. Raises Unavailable when it does not answer."""
        async with answering():
            shas = [script._script.sha for script in self._scripts]  # noqa: SLF001 - our own class
            present = await self._redis.script_exists(*shas)
            for script, there in zip(self._scripts, present, strict=True):
                if not there:
                    await self._redis.script_load(script._script.script)  # noqa: SLF001 - our own class


HANGS_AFTER = 7.0
"""Seconds after which a server that neither answers nor closes counts as away, whatever redis-py still tries."""


@asynccontextmanager
async def answering(*, within: float | None = HANGS_AFTER) -> AsyncIterator[None]:
    """Turn "Redis cannot serve this now" into Unavailable; every other error of Redis is a bug and stays.

    `within` is in seconds; None is for who listens for ever.
    """
    try:
        async with asyncio.timeout(within):
            yield
    except (*_AWAY, redis_errors.ResponseError) as error:
        if unavailable := _as_unavailable(error):
            raise unavailable from error
        raise


def _as_unavailable(error: Exception) -> Unavailable | None:
    if isinstance(error, _AWAY):
        return Unavailable("The store is not reachable at the moment.")
    if isinstance(error, redis_errors.ResponseError) and str(error).startswith(_AWAY_WORDS):
        return Unavailable("The store does not accept this at the moment.")
    return None


@cache
def _expand(source: str) -> str:
    """The source with its includes in place, each once, in the order they are first asked for."""
    seen: set[str] = set()

    def include(match: re.Match[str]) -> str:
        name = match[1]
        if name in seen:
            return ""
        seen.add(name)
        return _INCLUDE.sub(include, (LUA / "modules" / f"{name}.lua").read_text())

    return _INCLUDE.sub(include, source)


def _constants(values: Mapping[str, Any]) -> str:
    return "local C = {" + ", ".join(f"{name} = {_literal(value)}" for name, value in values.items()) + "}"


def _literal(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"[{_literal(name)}] = {_literal(item)}" for name, item in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return "{" + ", ".join(_literal(item) for item in value) + "}"
    data = value.encode() if isinstance(value, str) else value
    return '"' + "".join(f"\\{byte:03d}" for byte in data) + '"'
