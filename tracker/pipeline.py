"""Script calls of many tasks in one round trip, and what many tasks ask of one script in one call of it."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from redis.exceptions import NoScriptError

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript


MOST_TOGETHER = 100
"""What is asked for in one round trip, so that none waits for thousands of others' answers."""


class _Call(NamedTuple):
    script: "AsyncScript"
    words: list[Any]
    """As EVALSHA takes them: the number of keys, keys, arguments."""
    answers: list[asyncio.Future[Any]]
    """For the call's answer; of one that several have joined, each for its own element of it."""
    joined: bool

    def given_up(self) -> bool:
        """Whether nobody waits for it any more."""
        return all(answer.cancelled() for answer in self.answers)

    def settle(self, answer: Any) -> None:
        """Hand over the answer or error. Who does not wait for it any more is passed over."""
        failed = isinstance(answer, Exception)
        for index, future in enumerate(self.answers):
            if future.done():
                continue
            if failed:
                future.set_exception(answer)
            else:
                future.set_result(answer[index] if self.joined else answer)


class Pipeline:
    """Sends what is asked for in one turn of the event loop in one round trip, in the order in which it was asked.

    As soon as `MOST_TOGETHER` are asked for, they are sent, and what comes after is another round trip at the same
    time. Nothing waits for more to come. Calls are no transaction: each has its own answer or error. One that
    several have joined stands where the first asked.
    """

    def __init__(self, redis: "Redis", *, within: float) -> None:
        self._redis, self._within = redis, within
        self._calls: list[_Call] = []
        self._open: dict[tuple[Any, ...], _Call] = {}
        self._asked = self._waiting = 0
        """For how much in this turn of the loop, and how much of it is not sent yet."""
        self._sending: set[asyncio.Task[None]] = set()

    def call(self, script: "AsyncScript", keys: list[Any], args: list[Any]) -> asyncio.Future[Any]:
        """Run a script; its answer. Raises what redis-py raises."""
        call = _Call(script, [len(keys), *keys, *args], [], joined=False)
        self._calls.append(call)
        return self._ask(call)

    def join(
        self, script: "AsyncScript", place: tuple[Any, ...], keys: Callable[[], list[Any]], args: list[Any]
    ) -> asyncio.Future[Any]:
        """Have a script that answers one element to each of many do this for one more.

        What was asked of it at the same place, which stands for its keys, in the same turn of the loop goes in the
        same call.
        """
        place = (script, *place)
        call = self._open.get(place)
        if call is None:
            named = keys()
            call = self._open[place] = _Call(script, [len(named), *named], [], joined=True)
            self._calls.append(call)
        call.words.extend(args)
        return self._ask(call)

    async def turn(self) -> None:
        """Let the server begin before more is asked for, once that was much in this turn of the loop."""
        while self._asked >= MOST_TOGETHER:  # noqa: ASYNC110 - it is the turns themselves that are waited for
            await asyncio.sleep(0)

    def _ask(self, call: _Call) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        if not self._asked:
            loop.call_soon(self._end_turn)
        self._asked += 1
        self._waiting += 1
        answer: asyncio.Future[Any] = loop.create_future()
        call.answers.append(answer)
        if self._waiting == MOST_TOGETHER:
            self._send()
        return answer

    def _end_turn(self) -> None:
        self._asked = 0
        if self._waiting:
            self._send()

    def _send(self) -> None:
        calls, self._calls, self._open, self._waiting = self._calls, [], {}, 0
        calls = [call for call in calls if not call.given_up()]
        if not calls:
            return
        task = asyncio.ensure_future(self._answer(calls))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        leave = partial(_leave, task, calls)
        for call in calls:
            for answer in call.answers:
                answer.add_done_callback(leave)

    async def _answer(self, calls: list[_Call]) -> None:
        try:
            async with asyncio.timeout(self._within):
                answers = await self._run(calls)
        except Exception as error:  # noqa: BLE001 - it is raised where the answers are awaited
            answers = [error] * len(calls)
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
        async with self._redis.pipeline(transaction=False) as pipe:
            for call in calls:
                pipe.evalsha(call.script.sha, *call.words)
            return await pipe.execute(raise_on_error=False)


def _leave(round_trip: "asyncio.Task[None]", calls: list[_Call], answer: "asyncio.Future[Any]") -> None:
    """End a round trip that nobody waits for any more, as a command is ended with the task that sent it."""
    if answer.cancelled() and all(call.given_up() for call in calls):
        round_trip.cancel()
