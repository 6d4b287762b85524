"""HTTP client of a run, and the ledger that writes the answers into a journal."""

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
"""The longest time in seconds that a client waits for an answer. Then the request counts as lost."""
NO_ANSWER = 0
"""The `http` of an `Answer` to a request that the APIs never answer."""
AGAIN = 0.2
"""Seconds on average before a client repeats a request that was lost or answered with 503."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer: its HTTP status (or NO_ANSWER), its body, and the times of the request and of the answer."""

    http: int
    body: Mapping[str, Any]
    etag: str = ""
    asked: float = 0.0
    answered: float = 0.0


class Ledger:
    """Everything that clients received about each operation. Equal answers in a row make one line of the journal."""

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
        """How many operations were accepted, and how many of the accepted operations are not known to have ended."""
        return sum(map(len, self.calls.values())), sum(map(len, self._open.values()))

    def accept(self, call: str, name: str, answered: float, about: Mapping[str, Any]) -> None:
        """Note that the API accepted an operation. `about` holds its type and the earliest time of its start."""
        self.calls[call].add(name)
        self._open[call].add(name)
        self._journal.write(what="accepted", id=name, call=call, answered=answered, **about)

    def ask(self, what: str, name: str, asked: float) -> None:
        """Note that a client asks to cancel or delete the operation; `what` is `cancel` or `delete`."""
        self._journal.write(what=what, id=name, asked=asked)

    def delete(self, call: str, name: str, asked: float, answered: float) -> None:
        """Note that the API confirmed a delete."""
        self._open[call].discard(name)
        self._journal.write(what="delete", id=name, asked=asked, answered=answered)

    def odd(self, request: str, answer: Answer) -> None:
        """Note an answer that no correct API gives to this load."""
        self._journal.write(what="odd", request=request, http=answer.http, text=str(dict(answer.body))[:500])

    def see(self, call: str, name: str, answer: Answer, http: int, body: Mapping[str, Any] | None = None) -> None:
        """Note the state of an operation in an answer."""
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
        """Write the last sight of each operation."""
        for name, sight in self._now.items():
            self._write(name, sight)

    def _write(self, name: str, sight: Sight) -> None:
        self._journal.write(what="saw", id=name, **asdict(sight))


class Client:
    """Sends requests to the APIs, each to an API chosen at random unless the caller names an API."""

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
        """Send a request. Returns None when the request was lost, or when the API answers 503 because Redis is away."""
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
        """Send a request again and again until an API answers."""
        while (answer := await self.once(method, path, body)) is None:  # noqa: ASYNC110 - only another request can tell
            await asyncio.sleep(random.uniform(0.5, 1.5) * AGAIN)
        return answer

    async def look(self, call: str, api: int) -> None:
        """Read the list of a call from one API, and note the state of every operation that was accepted before."""
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
        """Read one operation and note its state.

        With an ETag in `unless` the API holds the answer until the ETag changes, 5 seconds at most.
        """
        headers = {"Prefer": "wait=5", "If-None-Match": unless} if unless else None
        answer = await self.once("GET", path_of(call, name), headers=headers)
        if answer is not None and answer.http in {HTTPStatus.OK, HTTPStatus.NOT_FOUND, HTTPStatus.GONE}:
            self.ledger.see(call, name, answer, answer.http, answer.body if answer.http == HTTPStatus.OK else None)
        elif answer is not None and answer.http != HTTPStatus.NOT_MODIFIED:
            self.ledger.odd(f"GET {path_of(call, name)}", answer)
        return answer


def path_of(call: str, name: str = "") -> str:
    """The path of a call's operations, or of one operation of the call."""
    return f"/communications/calls/{call}/operations{'/' if name else ''}{name}"
