"""Batches Redis script calls.

Calls that are made in one turn of the event loop share a round trip. Creates and other calls of the same script share
one EVALSHA. Plain code is `await script(keys, args)` for each call (benchmarks.api: create, end to end).
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.exceptions import NoScriptError, ResponseError

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.connection import AbstractConnection
    from redis.commands.core import AsyncScript


MOST_TOGETHER = 100
"""How many operations one round trip asks for at most. So no call waits for the answers of thousands of others."""
MOST_QUESTIONS = 16
"""How many calls are sent before the turn of the loop ends. The server works on them while more calls are made."""
MOST_EARLY = 4
"""How many round trips may be under way when calls are sent before the turn of the loop ends."""


class _Call(NamedTuple):
    script: "AsyncScript"
    words: list[Any]
    """What EVALSHA takes after the script's digest: the number of keys, the keys, the arguments."""
    answers: list[tuple[asyncio.Future[Any], int]]
    """Who waits for the answer. In a shared call each waits for so many elements of it."""
    joined: bool

    def given_up(self) -> bool:
        """Whether nobody waits for the answer any more."""
        return all(answer.cancelled() for answer, _ in self.answers)

    def settle(self, answer: Any) -> None:
        """Give the answer or the error to all who wait for it."""
        failed, start = isinstance(answer, Exception), 0
        for future, count in self.answers:
            end = start + count
            if not future.done():
                if failed:
                    future.set_exception(answer)
                else:
                    future.set_result(answer[start:end] if self.joined else answer)
            start = end


class Batcher:
    """Sends the calls of one turn of the event loop in one round trip, in the order in which they were made.

    A round trip is sent earlier when it asks for MOST_TOGETHER operations, or when it has MOST_QUESTIONS calls and few
    round trips are under way. No call waits for further calls. Calls are no transaction: each has its own answer or
    error. A shared call stands where the first of those who share it was made.
    """

    def __init__(self, redis: "Redis", *, within: float) -> None:
        self._redis, self._within = redis, within
        self._calls: list[_Call] = []
        self._open: dict[AsyncScript, _Call] = {}
        self._asked = 0
        """How many operations were asked for in this turn of the loop."""
        self._waiting = self._questions = 0
        """How many of these operations are not sent yet, and in how many calls."""
        self._sending: dict[asyncio.Task[None], list[_Call]] = {}

    def call(self, script: "AsyncScript", keys: list[Any], args: list[Any]) -> asyncio.Future[Any]:
        """Call a script. Returns its answer, or raises what redis-py raises."""
        call = _Call(script, [len(keys), *keys, *args], [], joined=False)
        self._calls.append(call)
        return self._ask(call, 1)

    def join(self, script: "AsyncScript", keys: list[Any], each: Sequence[list[Any]]) -> asyncio.Future[list[Any]]:
        """Call a script that answers one element for each operation, for at most MOST_TOGETHER operations.

        Calls of the script in one turn of the loop share one call, with the keys of the first.
        """
        if self._waiting + len(each) > MOST_TOGETHER:
            self._send()
        call = self._open.get(script)
        if call is None:
            call = self._open[script] = _Call(script, [len(keys), *keys], [], joined=True)
            self._calls.append(call)
        for args in each:
            call.words.extend(args)
        return self._ask(call, len(each))

    def leave(self) -> None:
        """Cancel round trips that nobody waits for any more. A task that stops waiting for an answer calls this."""
        for round_trip, calls in self._sending.items():
            if all(call.given_up() for call in calls):
                round_trip.cancel()

    async def turn(self) -> None:
        """Wait while this turn of the loop has asked for MOST_TOGETHER operations, so that they are sent first."""
        while self._asked >= MOST_TOGETHER:  # noqa: ASYNC110 - it waits for turns of the loop
            await asyncio.sleep(0)

    def _ask(self, call: _Call, count: int) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._end_turn)
        self._asked += count
        self._waiting += count
        self._questions += 1
        answer: asyncio.Future[Any] = loop.create_future()
        call.answers.append((answer, count))
        early = self._questions >= MOST_QUESTIONS and len(self._sending) < MOST_EARLY
        if early or self._waiting >= MOST_TOGETHER:
            self._send()
        return answer

    def _end_turn(self) -> None:
        self._asked = 0
        self._send()

    def _send(self) -> None:
        calls, self._calls, self._open = self._calls, [], {}
        self._waiting = self._questions = 0
        calls = [call for call in calls if not call.given_up()]
        if not calls:
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._answer(calls))
        self._sending[task] = calls
        guard = loop.call_later(
            self._within, task.cancel
        )  # plain code is asyncio.timeout, which takes ten times as long
        task.add_done_callback(partial(self._sent, guard))

    def _sent(self, guard: asyncio.TimerHandle, round_trip: asyncio.Task[None]) -> None:
        guard.cancel()
        del self._sending[round_trip]

    async def _answer(self, calls: list[_Call]) -> None:
        answers: list[Any] = [TimeoutError()] * len(calls)  # the answer of a cancelled round trip: see `_send`
        try:
            answers = await self._run(calls)
        except Exception as error:  # noqa: BLE001 - it is raised where the answers are awaited
            answers = [error] * len(calls)
        finally:
            for call, answer in zip(calls, answers, strict=True):
                call.settle(answer)

    async def _run(self, calls: list[_Call]) -> list[Any]:
        """The answer or error of each call. A script that the server lost is loaded, and its calls are made again."""
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
        """Send the calls and read their answers.

        Plain code is redis-py's pipeline. It does more for each command, for transactions and for other commands
        (benchmarks.api: create).
        """
        pool = self._redis.connection_pool
        connection = await pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            words = connection.pack_commands([("EVALSHA", call.script.sha, *call.words) for call in calls])
            ask = partial(_ask, connection, words, len(calls))
            answers: list[Any] = await connection.retry.call_with_retry(ask, lambda _: connection.disconnect())
            return answers
        finally:
            await pool.release(connection)


async def _ask(connection: "AbstractConnection", words: Sequence[bytes], count: int) -> list[Any]:
    """Send packed commands, and read `count` answers or errors."""
    await connection.send_packed_command(words)
    answers: list[Any] = []
    for _ in range(count):
        try:
            answers.append(await connection.read_response())
        except ResponseError as error:
            answers.append(error)
    return answers
