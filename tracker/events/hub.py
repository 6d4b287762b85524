"""The hub of a process: one subscription to Redis, whose events go to all who wait or follow in this process."""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

import structlog

from tracker.events.feed import BEGINNING, Position, PositionedEvent, is_end, readable
from tracker.events.follower import Follower
from tracker.events.subscriber import listen
from tracker.runtime.budgets import Budgets
from tracker.store.keys import owner_digest

if TYPE_CHECKING:
    from redis.asyncio import Redis

log = structlog.get_logger()

REMEMBERED = 4096
"""How many operations with recent changes are remembered: at least so many, at most twice as many."""
KEY_LENGTH = 32
"""How many characters an internal key has. Every line of a message begins with one."""


class ChangeWaiter:
    """Waits for the next change of one operation, within a `with` block. Thousands wait at once.

    `arrived` is done when the change has arrived, or when everybody is woken. Its result is the line that describes the
    change, or "" without one.
    """

    __slots__ = ("_key", "_waiting", "arrived")

    def __init__(self, waiting: dict[str, set["ChangeWaiter"]], key: str) -> None:
        self._waiting, self._key = waiting, key
        self.arrived: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def __enter__(self) -> Self:
        self._waiting.setdefault(self._key, set()).add(self)
        return self

    def __exit__(self, *_: object) -> None:
        others = self._waiting.get(self._key)
        if others is not None:
            others.discard(self)
            if not others:
                del self._waiting[self._key]

    def arrive(self, line: str = "") -> None:
        """End the wait, with the line that describes the change, if there is one."""
        if not self.arrived.done():
            self.arrived.set_result(line)

    async def within(self, seconds: float) -> str:
        """Wait for the change, for at most `seconds`. Returns the line that describes it, or "" without one."""
        timer = asyncio.get_running_loop().call_later(seconds, self.arrive)
        try:
            return await self.arrived
        finally:
            timer.cancel()


class RecentChanges:
    """Operations whose changes this process has received lately.

    `position` is the number of messages received so far.
    """

    def __init__(self) -> None:
        self.position = 0
        self._recent: dict[str, int] = {}
        self._older: dict[str, int] = {}
        self._begun = self._begun_older = 0
        """The positions after which `_recent` and `_older` have every change."""

    def add(self, keys: Iterable[str]) -> None:
        """Remember that a message with changes of these operations was received."""
        self.position += 1
        self._recent.update(dict.fromkeys(keys, self.position))
        if len(self._recent) >= REMEMBERED:
            self._older, self._recent = self._recent, {}
            self._begun_older, self._begun = self._begun, self.position

    def forget_all(self) -> None:
        """Forget all changes, because messages may have been missed. Every operation may have changed before now."""
        self.position += 1
        self._begun_older = self._begun = self.position
        self._recent, self._older = {}, {}

    def changed_since(self, position: int, key: str) -> bool:
        """Whether the operation may have changed since that position."""
        latest = max(self._recent.get(key, 0), self._older.get(key, 0))
        return position < self._begun_older or latest > position


class Waiters:
    """All who wait for one kind of change, and the operations that had such a change lately."""

    def __init__(self) -> None:
        self.recent = RecentChanges()
        self.waiting: dict[str, set[ChangeWaiter]] = {}

    def next_change(self, key: str) -> ChangeWaiter:
        """A wait for the next change of the operation with this internal key. It begins with its `with` block."""
        return ChangeWaiter(self.waiting, key)

    def deliver(self, lines: Mapping[str, str]) -> None:
        """Wake those who wait for a change in this message. `lines`: the line of each operation, by internal key."""
        self.recent.add(lines)
        for key in self.waiting.keys() & lines.keys():
            self._wake(key, lines[key])

    def wake_all(self) -> None:
        """Wake everybody who waits, without a line."""
        for key in list(self.waiting):
            self._wake(key)

    def _wake(self, key: str, line: str = "") -> None:
        for change in self.waiting.pop(key):
            change.arrive(line)


class EventHub:
    """Wakes requests that wait for a change, and hands events to those who follow operations.

    After a lost connection everybody is woken, because changes may have been missed. So a wake-up without a line means:
    read the record again.
    """

    def __init__(self, redis: "Redis", channel: str, budgets: Budgets) -> None:
        self._redis, self._channel, self.budgets = redis, channel, budgets
        self.changes, self.ends = Waiters(), Waiters()
        """Those who wait for any change, and those who wait until an operation ends or disappears."""
        self._followers: dict[str, set[Follower]] = {}
        self._latest: dict[str, Position] = {}
        self.stopped = False
        """Whether `stop` has been called."""
        self.subscribed = asyncio.Event()
        self.on_ends: Callable[[Sequence[str]], None] | None = None
        """A function that gets the lines of each message that describe ends."""

    @contextmanager
    def follow(self, tenant: str, *, call_id: str | None = None, key: str | None = None) -> Iterator[Follower]:
        """Follow the operations of a tenant, those of one of its calls, or one operation, by its internal key."""
        owner = owner_digest(tenant)
        name = key or (owner if call_id is None else f"{owner}\t{call_id}")
        follower = Follower(tenant, self.budgets)
        follower.stopped = self.stopped
        followers = self._followers.setdefault(name, set())
        followers.add(follower)
        try:
            yield follower
        finally:
            follower.clear()
            followers.discard(follower)
            if not followers and self._followers.get(name) is followers:
                del self._followers[name]

    async def run(self) -> None:
        """Receive messages until cancelled. Outages of Redis do not end the call."""
        await listen(self._redis, self._channel, on_message=self._receive, on_connection=self._on_connection)

    def stop(self) -> None:
        """Wake everybody for the last time, because this process ends."""
        self.stopped = True
        self._wake()
        for follower in self._all_followers():
            follower.stopped = True
            follower.wake()

    def latest_position(self, tenant: str) -> Position:
        """The position of the end of the tenant's latest message, of those received while anybody followed."""
        return self._latest.get(owner_digest(tenant), BEGINNING)

    def _receive(self, _: str, text: str) -> None:
        head, *lines = text.split("\n")
        changes = {line[:KEY_LENGTH]: line for line in lines}
        ends = {key: line for key, line in changes.items() if is_end(line)}
        self.changes.deliver(changes)
        if ends:
            self.ends.deliver(ends)
            if self.on_ends is not None:
                self.on_ends([*ends.values()])
        if self._followers and lines:
            try:
                owner, entry = head.split("\t")
                self._latest[owner] = Position.of(entry, len(lines))
            except ValueError:
                log.warning("message_unreadable", head=head[:200])
            else:
                self._offer(owner, entry, lines)

    def _offer(self, owner: str, entry: str, lines: Sequence[str]) -> None:
        """Offer the events of a message. Each follower gets its own all at once, because thousands may follow."""
        offered: dict[str, tuple[list[PositionedEvent], int]] = {}
        for number, line in enumerate(lines, 1):
            key, _, rest = line.partition("\t")
            call_id = rest.partition("\t")[0]
            names = [name for name in (key, f"{owner}\t{call_id}", owner) if name in self._followers]
            event = readable(line) if names else None
            if event is None:
                continue
            positioned = PositionedEvent(Position.of(entry, number), event)
            for name in names:
                events, size = offered.get(name, ([], 0))
                events.append(positioned)
                offered[name] = events, size + len(line)
        for name, (events, size) in offered.items():
            for follower in self._followers[name]:
                follower.offer(events, size)

    def _on_connection(self, connected: bool) -> None:  # noqa: FBT001 - `listen` calls it so
        if connected:
            self.subscribed.set()
        else:
            self.subscribed.clear()
        for waiters in (self.changes, self.ends):
            waiters.recent.forget_all()
        self._wake()
        for follower in self._all_followers():
            follower.missed = True
            follower.wake()

    def _wake(self) -> None:
        self.changes.wake_all()
        self.ends.wake_all()

    def _all_followers(self) -> Iterator[Follower]:
        for followers in self._followers.values():
            yield from followers
