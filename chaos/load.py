"""Load generator: clients create operations of every type, cancel or delete some, and read all until their end."""

import asyncio
import random
from collections.abc import Coroutine
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from time import monotonic
from typing import Any

from chaos.clients import AGAIN, NO_ANSWER, Answer, Client, path_of
from chaos.history import RANK
from chaos.kinds import KINDS
from chaos.plan import Plan

PER_CALL = 12
"""How many operations a call has."""
LONGEST = 0.3
"""The longest attempt, as a share of the length of the run."""
DELAYED, DELAYED_AND_CANCELED = 0.08, 0.5
"""The share of operations with a delay: of all, and of those that are canceled at once."""
DELAYS = (0.5, 3.0)
"""Shortest and longest delay, in seconds."""
POLL = 0.05
"""Seconds between two lists that a poller reads."""


class Meddling(StrEnum):
    """What a client does to its operation after the create, and when."""

    NONE = "none"
    """Nothing."""
    FOLLOW = "follow"
    """Wait for every change with `Prefer: wait`."""
    CANCEL = "cancel"
    """Cancel the operation as soon as the API has accepted it, mostly before its start."""
    CANCEL_RUNNING = "cancel running"
    """Cancel the operation when it is seen to run."""
    DELETE = "delete"
    """Delete the operation up to a second after its create: before, during or after its run."""


SHARES = {
    Meddling.NONE: 78,
    Meddling.FOLLOW: 8,
    Meddling.CANCEL: 5,
    Meddling.CANCEL_RUNNING: 6,
    Meddling.DELETE: 3,
}
"""How often clients do what, in percent."""


@dataclass(frozen=True, slots=True)
class Order:
    """An operation to create.

    An attempt of the operation takes `seconds`. The first attempt starts `delay` seconds after the create or later.
    """

    call: str
    name: str
    type: str
    seconds: float = 0.0
    delay: float = 0.0
    meddling: Meddling = Meddling.NONE

    @property
    def body(self) -> dict[str, Any]:
        """The request's body."""
        body = {"@odata.type": self.type, "id": self.name, "seconds": round(self.seconds, 3)}
        return {**body, "delay": round(self.delay, 3)} if self.delay else body


class Load:
    """Creates calls at the plan's rate until canceled, and polls every accepted operation until its end."""

    def __init__(self, client: Client, plan: Plan) -> None:
        self._client, self._plan, self._ledger = client, plan, client.ledger
        self._random = random.Random(f"{plan.seed} load")
        self._calls = 0
        self._creating: set[asyncio.Task[None]] = set()
        self._meddling: set[asyncio.Task[None]] = set()
        self._defects: list[BaseException] = []

    async def begin(self) -> None:
        """Create a first operation and wait for its end. Then all processes work, and faults may begin."""
        first = Order("first", "first", "#chaos.quick")
        await self._create([first])
        await self._follow(first)

    async def run(self) -> None:
        """Create operations until canceled. The caller then calls `finish`."""
        while True:
            self._begin(self._creating, self._create(self._orders()))
            await asyncio.sleep(PER_CALL / self._plan.rate)

    async def finish(self) -> None:
        """Wait until the APIs have answered every create, for `plan.within` seconds at most.

        A create without an answer by then is noted as odd. Raises an exception that one of the client tasks raised.
        """
        if self._creating:
            _, pending = await asyncio.wait(self._creating, timeout=self._plan.within)
            if pending:
                self._ledger.odd("POST", Answer(NO_ANSWER, {"calls that are not accepted": len(pending)}))
        for defect in self._defects:
            raise defect

    async def close(self) -> None:
        """Cancel all tasks that send requests."""
        for task in (*self._creating, *self._meddling):
            task.cancel()
        await asyncio.gather(*self._creating, *self._meddling, return_exceptions=True)

    async def poll(self, api: int) -> None:
        """Read lists from one API until canceled.

        Each turn reads every call with operations that have not ended, and one call without.
        """
        while True:
            over = [call for call in self._ledger.calls if call not in self._ledger.open]
            for call in [*self._ledger.open, *(random.choice(over) for _ in over[:1])]:
                await self._client.look(call, api)
                await asyncio.sleep(POLL)
            await asyncio.sleep(POLL)

    def _orders(self) -> list[Order]:
        self._calls += 1
        call = f"call-{self._calls}"
        types = self._random.choices(list(KINDS), [kind.weight for kind in KINDS.values()], k=PER_CALL)
        meddlings = self._random.choices(list(SHARES), list(SHARES.values()), k=PER_CALL)
        return [
            Order(
                call=call,
                name=f"{call}-{number}",
                type=type_,
                seconds=min(self._random.uniform(*KINDS[type_].seconds), LONGEST * self._plan.seconds),
                delay=self._delay(meddling),
                meddling=meddling,
            )
            for number, (type_, meddling) in enumerate(zip(types, meddlings, strict=True))
        ]

    def _delay(self, meddling: Meddling) -> float:
        share = DELAYED_AND_CANCELED if meddling is Meddling.CANCEL else DELAYED
        return self._random.uniform(*DELAYS) if self._random.random() < share else 0.0

    async def _create(self, orders: list[Order]) -> None:
        for order in orders:
            asked = monotonic()
            answer = await self._client.insist("POST", path_of(order.call), order.body)
            if answer.http not in {HTTPStatus.CREATED, HTTPStatus.OK}:
                self._ledger.odd(f"POST {order.body}", answer)
                continue
            about = {"type": order.type, "may_start": asked + order.delay}
            self._ledger.accept(order.call, order.name, answer.answered, about)
            if order.meddling is not Meddling.NONE:
                self._begin(self._meddling, self._meddle(order))

    async def _meddle(self, order: Order) -> None:
        match order.meddling:
            case Meddling.CANCEL:
                await self._cancel(order)
            case Meddling.DELETE:
                await asyncio.sleep(random.uniform(0, 1))
                await self._delete(order)
            case _:
                await self._follow(order)

    async def _follow(self, order: Order) -> None:
        etag, rank = "", 0
        while rank < RANK["Completed"]:
            answer = await self._client.read(order.call, order.name, unless=etag)
            if answer is None:
                await asyncio.sleep(AGAIN)
            elif answer.http == HTTPStatus.OK:
                etag = answer.etag
                if rank < (rank := RANK[answer.body["status"]]) == 1 and order.meddling is Meddling.CANCEL_RUNNING:
                    await self._cancel(order)
            elif answer.http != HTTPStatus.NOT_MODIFIED:
                return

    async def _cancel(self, order: Order) -> None:
        self._ledger.ask("cancel", order.name, monotonic())
        answer = await self._client.insist("POST", f"{path_of(order.call, order.name)}/cancel")
        if answer.http in {HTTPStatus.OK, HTTPStatus.ACCEPTED}:
            self._ledger.see(order.call, order.name, answer, HTTPStatus.OK, answer.body)
        else:
            self._ledger.odd(f"POST {path_of(order.call, order.name)}/cancel", answer)

    async def _delete(self, order: Order) -> None:
        asked = monotonic()
        self._ledger.ask("delete", order.name, asked)
        answer = await self._client.insist("DELETE", path_of(order.call, order.name))
        if answer.http in {HTTPStatus.NO_CONTENT, HTTPStatus.GONE}:  # 410: the answer to the first delete was lost
            self._ledger.delete(order.call, order.name, asked, answer.answered)
        else:
            self._ledger.odd(f"DELETE {path_of(order.call, order.name)}", answer)

    def _begin(self, tasks: set[asyncio.Task[None]], work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (defect := task.exception()) is not None:
            self._defects.append(defect)
