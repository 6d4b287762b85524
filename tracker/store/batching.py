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
"""How many operations are in one round trip at most. So no call waits for the replies of thousands of others."""
EARLY_SEND_CALLS = 16
"""After this many calls a round trip is sent before the turn of the loop ends. The server works on the calls while this
process makes more."""
MOST_EARLY_ROUND_TRIPS = 4
"""Calls are sent before the turn of the loop ends only while fewer round trips than this are under way."""


class _Call(NamedTuple):
    script: "AsyncScript"
    words: list[Any]
    """The arguments of EVALSHA after the script's digest: the number of keys, the keys, the arguments of the script."""
    futures: list[tuple[asyncio.Future[Any], int]]
    """The futures that get the reply. In a shared call each gets a part of it, with this number of elements."""
    joined: bool
    """Whether the call can be shared: its reply is a list with an element for each operation."""
    parts: list[int]
    """In a shared call, for each future how many of the words are its own."""

    def given_up(self) -> bool:
        """Whether nobody waits for the reply any more."""
        return all(future.cancelled() for future, _ in self.futures)

    def has_failed_for_all(self, reply: Any) -> bool:
        """Whether an error in the script has ended the call for several futures, though one of them may be its cause.

        Errors of which redis-py has a class say that the server serves no such call now.
        """
        return len(self.futures) > 1 and type(reply) is ResponseError

    def apart(self) -> "list[_Call]":
        """A call for each future, with its own part of the words."""
        at = len(self.words) - sum(self.parts)
        shared, calls = self.words[:at], []
        for future, size in zip(self.futures, self.parts, strict=True):
            calls.append(self._replace(words=shared + self.words[at : at + size], futures=[future], parts=[size]))
            at += size
        return calls

    def settle(self, reply: Any) -> None:
        """Resolve the futures with the reply, or with the error."""
        failed, start = isinstance(reply, Exception), 0
        for future, count in self.futures:
            end = start + count
            if not future.done():
                if failed:
                    future.set_exception(reply)
                else:
                    future.set_result(reply[start:end] if self.joined else reply)
            start = end


class Batcher:
    """Sends the calls of one turn of the event loop in one round trip, in the order in which they were made.

    A round trip is sent before the turn ends when it has MOST_TOGETHER operations, or when it has EARLY_SEND_CALLS
    calls and fewer than MOST_EARLY_ROUND_TRIPS round trips are under way. No call waits until a batch is full. The
    calls are no transaction: each has its own reply or error. A shared call takes the position of the first call that
    it replaces.
    """

    def __init__(self, redis: "Redis", *, within: float) -> None:
        self._redis, self._within = redis, within
        self._calls: list[_Call] = []
        self._open: dict[AsyncScript, _Call] = {}
        self._operations_in_turn = 0
        """How many operations were in calls of this turn of the loop."""
        self._unsent_operations = self._unsent_calls = 0
        """How many of these operations are not sent yet, and by how many calls of `call` and `join`."""
        self._sending: dict[asyncio.Task[None], list[_Call]] = {}

    def call(self, script: "AsyncScript", keys: list[Any], args: list[Any]) -> asyncio.Future[Any]:
        """Call a script. The future gets its reply, or the error that redis-py would raise."""
        call = _Call(script, [len(keys), *keys, *args], [], joined=False, parts=[])
        self._calls.append(call)
        return self._add(call, 1)

    def join(self, script: "AsyncScript", keys: list[Any], each: Sequence[list[Any]]) -> asyncio.Future[list[Any]]:
        """Call a script for up to MOST_TOGETHER operations. Its reply is a list with an element for each operation.

        All calls of this method for a script in one turn of the loop share one EVALSHA, with the keys of the first.
        """
        if self._unsent_operations + len(each) > MOST_TOGETHER:
            self._send()
        call = self._open.get(script)
        if call is None:
            call = self._open[script] = _Call(script, [len(keys), *keys], [], joined=True, parts=[])
            self._calls.append(call)
        before = len(call.words)
        for args in each:
            call.words.extend(args)
        call.parts.append(len(call.words) - before)
        return self._add(call, len(each))

    def leave(self) -> None:
        """Cancel round trips whose futures are all cancelled. A task that stops waiting for a reply calls this."""
        for round_trip, calls in self._sending.items():
            if all(call.given_up() for call in calls):
                round_trip.cancel()

    async def turn(self) -> None:
        """Wait for the next turn of the loop if this turn has MOST_TOGETHER operations. Those are sent first."""
        while self._operations_in_turn >= MOST_TOGETHER:  # noqa: ASYNC110 - it waits for turns of the loop
            await asyncio.sleep(0)

    def _add(self, call: _Call, count: int) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        if not self._operations_in_turn:
            loop.call_soon(self._end_turn)
        self._operations_in_turn += count
        self._unsent_operations += count
        self._unsent_calls += 1
        future: asyncio.Future[Any] = loop.create_future()
        call.futures.append((future, count))
        early = self._unsent_calls >= EARLY_SEND_CALLS and len(self._sending) < MOST_EARLY_ROUND_TRIPS
        if early or self._unsent_operations >= MOST_TOGETHER:
            self._send()
        return future

    def _end_turn(self) -> None:
        self._operations_in_turn = 0
        self._send()

    def _send(self) -> None:
        calls, self._calls, self._open = self._calls, [], {}
        self._unsent_operations = self._unsent_calls = 0
        calls = [call for call in calls if not call.given_up()]
        if not calls:
            return
        loop = asyncio.get_running_loop()
        task = loop.create_task(self._send_and_settle(calls))
        self._sending[task] = calls
        # plain code is asyncio.timeout, which takes ten times as long
        timer = loop.call_later(self._within, task.cancel)
        task.add_done_callback(partial(self._sent, timer))

    def _sent(self, timer: asyncio.TimerHandle, round_trip: asyncio.Task[None]) -> None:
        timer.cancel()
        del self._sending[round_trip]

    async def _send_and_settle(self, calls: list[_Call]) -> None:
        replies: list[Any] = [TimeoutError()] * len(calls)  # the reply of a cancelled round trip: see `_send`
        try:
            replies = await self._run(calls)
        except Exception as error:  # noqa: BLE001 - it is raised where the replies are awaited
            replies = [error] * len(calls)
        finally:
            for call, reply in zip(calls, replies, strict=True):
                call.settle(reply)
            # An error's traceback holds the frame that holds this list. Only a full garbage collection would free them.
            replies.clear()

    async def _run(self, calls: list[_Call]) -> list[Any]:
        """The reply or error of each call. If the server has lost a script, load it and repeat its calls.

        If the script fails in a shared call, the call is repeated for each future apart. The error is for the one at
        fault then, and not for all who happened to call in the same turn. All scripts may be repeated.
        """
        replies = await self._round_trip(calls)
        missed = [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if missed:
            again = await self._repeat([calls[index] for index in missed], load=True)
            for index, reply in zip(missed, again, strict=True):
                replies[index] = reply
        for call, reply in zip(calls, replies, strict=True):
            if call.has_failed_for_all(reply):
                apart = call.apart()
                for one, own_reply in zip(apart, await self._repeat(apart), strict=True):
                    one.settle(own_reply)
        return replies

    async def _repeat(self, calls: list[_Call], *, load: bool = False) -> list[Any]:
        """Send some calls again. An error of this round trip is theirs only: the other calls have their replies."""
        try:
            for script in {call.script for call in calls if load}:
                await self._redis.script_load(script.script)
            return await self._round_trip(calls)
        except Exception as error:  # noqa: BLE001 - it is raised where the replies are awaited
            return [error] * len(calls)

    async def _round_trip(self, calls: list[_Call]) -> list[Any]:
        """Send the calls and read their replies.

        Plain code is redis-py's pipeline. It does more for each command, for transactions and for other commands
        (benchmarks.api: create).
        """
        pool = self._redis.connection_pool
        connection = await pool.get_connection()  # type: ignore[no-untyped-call]
        try:
            words = connection.pack_commands([("EVALSHA", call.script.sha, *call.words) for call in calls])
            ask = partial(_exchange, connection, words, len(calls))
            replies: list[Any] = await connection.retry.call_with_retry(ask, lambda _: connection.disconnect())
            return replies
        finally:
            await pool.release(connection)


async def _exchange(connection: "AbstractConnection", words: Sequence[bytes], count: int) -> list[Any]:
    """Send packed commands, and read `count` replies or errors."""
    await connection.send_packed_command(words)
    replies: list[Any] = []
    for _ in range(count):
        try:
            replies.append(await connection.read_response())
        except ResponseError as error:
            replies.append(error.with_traceback(None))  # the traceback holds this frame, and the frame holds the error
    return replies
