"""The guard of the event loops: ends the hosts whose loop a handler blocks, so that nobody waits for that handler."""

from collections.abc import Callable, Mapping
from weakref import WeakSet

import structlog

from tracker.domain.type_registry import canonical
from workers.attempt import Attempt, StopReason
from workers.host import Host
from workers.loop_turns import LoopWatch
from workers.pool import Pool

log = structlog.get_logger()


class LoopGuard:
    """Guards the hosts of coroutines of one worker.

    A host is not killed if one of its operations must not run again (`rerun_unproven=False`). Its operations wait then.

    `attempts` are the attempts that run, by `run_id`. `run_apart` makes the worker run the operations of a type in
    processes of their own. The guard calls it with each type whose operations have blocked a loop, by canonical name.
    """

    def __init__(
        self, watch: LoopWatch, pool: Pool, attempts: Mapping[int, Attempt], run_apart: Callable[[str], None]
    ) -> None:
        self._watch, self._pool, self._attempts, self._run_apart = watch, pool, attempts, run_apart
        self._handled: WeakSet[Host] = WeakSet()
        """Hosts whose blocked loops were dealt with."""
        self.blocking_types: set[str] = set()
        """The types whose operations have blocked a loop, by canonical names."""

    def check(self) -> None:
        """Replace the hosts whose loops are blocked, and kill those in which others wait.

        The executor hands the attempts back after the process is dead. So no operation has two attempts at once.
        """
        hosts = {each.host for each in self._attempts.values() if each.host is not None}
        for host, run_id in self._watch.blocked(hosts):
            if host not in self._handled and not self._pool.is_apart(host):
                self._handled.add(host)
                self._pool.retire(host, "blocked")
                self._end(host, run_id)

    def waits_for_another(self, attempt: Attempt) -> bool:
        """Whether the attempt seems to wait for another one that blocks the loop, and this guard will decide on it."""
        host = attempt.host
        if host is None or host in self._handled or self._pool.is_apart(host):
            return False
        return self._watch.is_suspect(host) and self._watch.blocker(host) != attempt.run_id

    def _end(self, host: Host, run_id: int) -> None:
        attempts = [each for each in self._attempts.values() if each.host is host]
        blocker = self._attempts.get(run_id)
        if blocker is not None:
            self._note_type(blocker)
        if len(attempts) > 1 and all(attempt.record.policy.rerun_unproven for attempt in attempts):
            for attempt in attempts:
                _note_block(attempt, blocker)
            host.kill()

    def _note_type(self, blocker: Attempt) -> None:
        record = blocker.record
        self._run_apart(canonical(record.type))
        self.blocking_types.add(canonical(record.type))
        log.warning("type_runs_apart", type=record.type, operation_id=record.id, reason="it has blocked an event loop")


def _note_block(attempt: Attempt, blocker: Attempt | None) -> None:
    """Note why the attempt ends, unless there was a reason before. `blocker` may be the attempt itself."""
    if attempt.stop_reason is not None and (attempt.stop_reason is not StopReason.DEADLINE or attempt is blocker):
        return
    attempt.stop_reason = StopReason.BLOCKED
    if blocker is attempt:
        attempt.stop_message = "It blocked the event loop of other operations, and runs in a process of its own now."
        return
    who = "an operation" if blocker is None else f"the operation {blocker.record.id} ({blocker.record.type})"
    attempt.stop_message = f"The event loop was blocked by {who}. Nobody is charged."
