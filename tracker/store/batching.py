"""Script calls of many tasks in one round trip, and what many tasks ask of one script in one call of it."""

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
"""What is asked for in one round trip, so that none waits for thousands of others' answers."""
MOST_QUESTIONS = 16
"""How many ask in one round trip: the server works on that while others are still asking."""
MOST_EARLY = 4
"""Round trips under way, at most, beside which another is begun before the turn of the loop ends or it is full."""


class _Call(NamedTuple):
    script: "AsyncScript"
    words: list[Any]
    """As EVALSHA takes them: the number of keys, keys, arguments."""
    answers: list[tuple[asyncio.Future[Any], int]]
    """For the call's answer; of one that several have joined, for so many elements of it each."""
    joined: bool

    def given_up(self) -> bool:
        """Whether nobody waits for it any more."""
        return all(answer.cancelled() for answer, _ in self.answers)

    def settle(self, answer: Any) -> None:
        """Hand over the answer or error. Who does not wait for it any more is passed over."""
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
    """Sends what is asked for in one turn of the event loop in one round trip, in the order in which it was asked.

    As soon as `MOST_TOGETHER` are asked for, or `MOST_QUESTIONS` have been put while little is under way, that is sent,
    and what comes after is another round trip at the same time. Nothing waits for more to come. Calls are no
    transaction: each has its own answer or error. One that several have joined stands where the first asked.
    """

    def __init__(self, redis: "Redis", *, within: float) -> None:
        self._redis, self._within = redis, within
        self._calls: list[_Call] = []
        self._open: dict[AsyncScript, _Call] = {}
        self._asked = 0
        """For how much in this turn of the loop."""
        self._waiting = self._questions = 0
        """How much of it is not sent yet, and how many questions that is."""
        self._sending: dict[asyncio.Task[None], list[_Call]] = {}

    def call(self, script: "AsyncScript", keys: list[Any], args: list[Any]) -> asyncio.Future[Any]:
        """Run a script; its answer. Raises what redis-py raises."""
        call = _Call(script, [len(keys), *keys, *args], [], joined=False)
        self._calls.append(call)
        return self._ask(call, 1)

    def join(self, script: "AsyncScript", keys: list[Any], each: Sequence[list[Any]]) -> asyncio.Future[list[Any]]:
        """Have a script that answers one element to each of many do this for these, `MOST_TOGETHER` at most.

        What was asked of it in the same turn of the loop goes in the same call, over the keys of the first.
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
        """End round trips that nobody waits for any more, as a command is ended with the task that sent it.

        Whoever gives an answer up says so by this.
        """
        for round_trip, calls in self._sending.items():
            if all(call.given_up() for call in calls):
                round_trip.cancel()

    async def turn(self) -> None:
        """Let the server begin before more is asked for, once that was much in this turn of the loop."""
        while self._asked >= MOST_TOGETHER:  # noqa: ASYNC110 - it is the turns themselves that are waited for
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
        guard = loop.call_later(self._within, task.cancel)  # asyncio.timeout takes ten times as long
        task.add_done_callback(partial(self._sent, guard))

    def _sent(self, guard: asyncio.TimerHandle, round_trip: asyncio.Task[None]) -> None:
        guard.cancel()
        del self._sending[round_trip]

    async def _answer(self, calls: list[_Call]) -> None:
        answers: list[Any] = [TimeoutError()] * len(calls)  # for whoever still waits when it is cancelled: see `_send`
        try:
            answers = await self._run(calls)
        except Exception as error:  # noqa: BLE001 - it is raised where the answers are awaited
            answers = [error] * len(calls)
        finally:
            for call, answer in zip(calls, answers, strict=True):
                call.settle(answer)

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
        """As redis-py's own pipeline does it, without what that does for transactions and for all other commands."""
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
    """Send commands that are packed, and read as many answers, errors among them."""
    await connection.send_packed_command(words)
    answers: list[Any] = []
    for _ in range(count):
        try:
            answers.append(await connection.read_response())
        except ResponseError as error:
            answers.append(error)
    return answers
