"""The slots of a worker by tenant: how many operations of each tenant it runs, and how many it may run at most.

While one tenant is known, it may take all slots. With more tenants, none takes more than `PoolSize.tenant_most` per
cent of a kind of slot, and at least one slot stays free for others.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tracker.runtime.shares import most_of_one
from tracker.store.claim_shares import ClaimShares
from workers.host import Host, HostKind

if TYPE_CHECKING:
    from tracker.domain.record import Record
    from workers.attempt import Attempt
    from workers.pool import Pool, PoolSize

APART = "apart"
"""The room for operations that need a process of their own."""


class TenantSlots:
    """Counts the slots that each tenant takes. `size` says how many slots there are."""

    def __init__(self, size: "PoolSize") -> None:
        self._size = size
        self._slots: dict[int, tuple[str, str]] = {}
        self._held: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.known_tenants = 1
        """How many tenants the installation has, as the worker has read last."""

    def take(self, run_id: int, tenant: str, room: str) -> None:
        """Note that an attempt has begun. `room` is which room of a claim it takes."""
        self._slots[run_id] = tenant, room
        self._held[tenant][room] += 1

    def give_back(self, run_id: int) -> None:
        """Note that an attempt has ended."""
        tenant, room = self._slots.pop(run_id)
        self._held[tenant][room] -= 1
        if not self._held[tenant].total():
            del self._held[tenant]

    def shares(
        self, weights: Mapping[str, int], pool: "Pool", starting: "Iterable[tuple[Record, str]]" = ()
    ) -> ClaimShares:
        """The shares of tenants in the next claim. `starting` has operations that begin soon, each with its room."""
        if not self._is_bounded:
            return ClaimShares(weights)
        held = {tenant: Counter(counts) for tenant, counts in self._held.items()}
        for record, room in starting:
            held.setdefault(record.tenant, Counter())[room] += 1
        most = {
            HostKind.COROUTINE: self._most(self._size.concurrency),
            HostKind.FUNCTION: self._most(self._size.processes) * pool.functions_per_host(),
            APART: self._most(self._size.apart),
        }
        return ClaimShares(weights, most, held)

    def hosts_for(self, tenant: str, queues: "Mapping[Host, Iterable[Attempt]]") -> set[Host] | None:
        """The hosts of plain functions that may take one more function of the tenant; None: all of them.

        `queues` has the attempts of each such host. A host takes several short functions at once, and any of them may
        turn out to be long. So a tenant that has attempts in as many hosts as it may have gets no other host.
        """
        if not self._is_bounded:
            return None
        hosts = {host for host, attempts in queues.items() if any(each.record.tenant == tenant for each in attempts)}
        return hosts if len(hosts) >= self._most(self._size.processes) else None

    @property
    def _is_bounded(self) -> bool:
        return self.known_tenants > 1

    def _most(self, slots: int) -> int:
        return most_of_one(slots, self._size.tenant_most)
