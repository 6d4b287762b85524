"""Script calls of many tasks in one round trip."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis.exceptions import NoScriptError

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript


MOST_TOGETHER = 128
"""Calls of one round trip, so that none waits for thousands of others' answers."""


@dataclass(slots=True, eq=False)
class _Call:
    script: "AsyncScript"
    words: tuple[Any, ...]
    """As EVALSHA takes them: the number of keys, keys, arguments."""
    answer: asyncio.Future[Any]
    fellows: Sequence["_Call"] = ()
    """Those of the same round trip, itself among them."""
    trip: "asyncio.Task[None] | None" = None


class Pipeline:
    """Sends what is asked for in one turn of the event loop in one round trip, in the order in which it was asked.

    More than `MOST_TOGETHER` calls are several round trips at the same time. Nothing waits for more to come. Calls
    are no transaction: each has its own answer or error.
    """

    def __init__(self, redis: "Redis", *, within: float) -> None:
        self._redis, self._within = redis, within
        self._calls: list[_Call] = []
        self._sending: set[asyncio.Task[None]] = set()

    async def call(self, script: "AsyncScript", keys: list[Any], args: list[Any]) -> Any:
        """Run a script. Raises what redis-py raises."""
        loop = asyncio.get_running_loop()
        if not self._calls:
            loop.call_soon(self._send)
        call = _Call(script, (len(keys), *keys, *args), loop.create_future())
        self._calls.append(call)
        try:
            return await call.answer
        except asyncio.CancelledError:
            if call.trip is not None and all(fellow.answer.cancelled() for fellow in call.fellows):
                call.trip.cancel()  # as a command ends with the task that sent it: nobody waits any more
            raise

    def _send(self) -> None:
        calls, self._calls = [call for call in self._calls if not call.answer.done()], []
        for start in range(0, len(calls), MOST_TOGETHER):
            together = calls[start : start + MOST_TOGETHER]
            task = asyncio.ensure_future(self._answer(together))
            for call in together:
                call.fellows, call.trip = together, task
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _answer(self, calls: list[_Call]) -> None:
        try:
            async with asyncio.timeout(self._within):
                answers = await self._run(calls)
        except Exception as error:  # noqa: BLE001 - it is raised where the answers are awaited
            answers = [error] * len(calls)
        for call, answer in zip(calls, answers, strict=True):
            if call.answer.done():
                continue  # nobody waits for it any more
            if isinstance(answer, Exception):
                call.answer.set_exception(answer)
            else:
                call.answer.set_result(answer)

    async def _run(self, calls: list[_Call]) -> list[Any]:
        """The answer or error of each; a script that the server lost is loaded, and what it missed run again."""
        answers = await self._round_trip(calls)
        missed = [index for index, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
        if missed:
            for script in {calls[index].script for index in missed}:
                await self._redis.script_load(script.script)
            again = await self._round_trip([calls[index] for index in missed])
            for index, answer in zip(missed, again, strict=True):
                answers[index] = answer
        return answers

    async def _round_trip(self, calls: list[_Call]) -> list[Any]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for call in calls:
                pipe.evalsha(call.script.sha, *call.words)
            return await pipe.execute(raise_on_error=False)
