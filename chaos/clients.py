"""The clients of a run: how they ask, and where what they are told is written down."""

import asyncio
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from http import HTTPStatus
from time import monotonic
from typing import Any

import aiohttp

from chaos.history import FINAL, NOT_LISTED, Sight
from chaos.journal import Journal

ANSWER_WITHIN = 20.0
"""Seconds after which a request counts as lost."""
NO_ANSWER = 0
"""Stands for the HTTP status of a request that is never answered."""
AGAIN = 0.2
"""Seconds before one that was lost or refused with 503 is sent again, on average."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, with the times at which it was asked for and had come. `http` may be NO_ANSWER."""

    http: int
    body: Mapping[str, Any]
    etag: str = ""
    asked: float = 0.0
    answered: float = 0.0


class Ledger:
    """What clients were told of every operation; a line is written when that is something new."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._now: dict[str, Sight] = {}
        self._open: dict[str, set[str]] = defaultdict(set)
        self.calls: dict[str, set[str]] = defaultdict(set)

    @property
    def open(self) -> Sequence[str]:
        """The calls with operations that are not known to have ended."""
        return [call for call, left in self._open.items() if left]

    @property
    def counts(self) -> tuple[int, int]:
        """How many operations were accepted, and how many of these are not known to have ended."""
        return sum(map(len, self.calls.values())), sum(map(len, self._open.values()))

    def accept(self, call: str, name: str, answered: float, about: Mapping[str, Any]) -> None:
        """Note that an operation was accepted: its type, and when it may start."""
        self.calls[call].add(name)
        self._open[call].add(name)
        self._journal.write(what="accepted", id=name, call=call, answered=answered, **about)

    def ask(self, what: str, name: str, asked: float) -> None:
        """Note that somebody asks to cancel or delete it."""
        self._journal.write(what=what, id=name, asked=asked)

    def delete(self, call: str, name: str, asked: float, answered: float) -> None:
        """Note that it is deleted."""
        self._open[call].discard(name)
        self._journal.write(what="delete", id=name, asked=asked, answered=answered)

    def odd(self, request: str, answer: Answer) -> None:
        """Note an answer that nobody should get."""
        self._journal.write(what="odd", request=request, http=answer.http, text=str(dict(answer.body))[:500])

    def see(self, call: str, name: str, answer: Answer, http: int, body: Mapping[str, Any] | None = None) -> None:
        """Note what an answer tells of an operation."""
        result = (body or {}).get("resultInfo") or {}
        sight = Sight(
            answered=answer.answered,
            asked=answer.asked,
            http=http,
            **{key: value for key, value in (body or {}).items() if key in {"status", "attempt"}},
            code=result.get("code", 0),
            subcode=result.get("subcode", 0),
            message=result.get("message", ""),
            ended=(body or {}).get("completedDateTime", ""),
        )
        before = self._now.get(name)
        if before is not None and before == replace(sight, asked=before.asked, answered=before.answered):
            first, last = min(before.answered, sight.answered), max(before.asked, sight.asked)
            self._now[name] = replace(sight, answered=first, asked=last)
            return
        if before is not None:
            self._write(name, before)
        self._now[name] = sight
        if sight.http == HTTPStatus.OK and sight.rank == FINAL:
            self._open[call].discard(name)

    def close(self) -> None:
        """Write the last sights."""
        for name, sight in self._now.items():
            self._write(name, sight)

    def _write(self, name: str, sight: Sight) -> None:
        self._journal.write(what="saw", id=name, **asdict(sight))


class Client:
    """Asks the APIs, either of them, again and again where that is needed."""

    def __init__(self, session: aiohttp.ClientSession, urls: Sequence[str], ledger: Ledger) -> None:
        self._session, self._urls, self.ledger = session, urls, ledger

    async def once(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        api: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer | None:
        """Send a request; None when it was lost, or the API says that the store is away."""
        url = random.choice(self._urls) if api is None else self._urls[api % len(self._urls)]
        timeout = aiohttp.ClientTimeout(total=ANSWER_WITHIN)
        asked = monotonic()
        with suppress(aiohttp.ClientError, TimeoutError):
            async with self._session.request(
                method, f"{url}{path}", json=body, headers=headers, timeout=timeout
            ) as response:
                told = await response.json() if response.content_type == "application/json" else {}
                if response.status != HTTPStatus.SERVICE_UNAVAILABLE:
                    return Answer(response.status, told, response.headers.get("ETag", ""), asked, monotonic())
        return None

    async def insist(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Answer:
        """Send a request until it is answered."""
        while (answer := await self.once(method, path, body)) is None:  # noqa: ASYNC110 - only asking tells
            await asyncio.sleep(random.uniform(0.5, 1.5) * AGAIN)
        return answer

    async def look(self, call: str, api: int) -> None:
        """Read a call's list from that API, and note what it tells of every operation that was accepted before."""
        known = frozenset(self.ledger.calls[call])
        answer = await self.once("GET", f"{path_of(call)}?$top=999", api=api)
        if answer is None:
            return
        if answer.http != HTTPStatus.OK:
            self.ledger.odd(f"GET {path_of(call)}", answer)
            return
        listed = {resource["id"]: resource for resource in answer.body["value"]}
        for name in known:
            there = name in listed
            self.ledger.see(call, name, answer, HTTPStatus.OK if there else NOT_LISTED, listed.get(name))

    async def read(self, call: str, name: str, *, unless: str = "") -> Answer | None:
        """Read one operation, and note it; with an ETag, when it is another, for a few seconds at most."""
        headers = {"Prefer": "wait=5", "If-None-Match": unless} if unless else None
        answer = await self.once("GET", path_of(call, name), headers=headers)
        if answer is not None and answer.http in {HTTPStatus.OK, HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            self.ledger.see(call, name, answer, answer.http, answer.body if answer.http == HTTPStatus.OK else None)
        elif answer is not None and answer.http != HTTPStatus.NOT_MODIFIED:
            self.ledger.odd(f"GET {path_of(call, name)}", answer)
        return answer


def path_of(call: str, name: str = "") -> str:
    """Where a call's operations are, or one of them."""
    return f"/communications/calls/{call}/operations{'/' if name else ''}{name}"
