"""The slots of a worker by tenant: how many each takes, and how many it may take."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.support.records import make_record
from workers.pool import PoolSize
from workers.tenant_slots import TenantSlots

if TYPE_CHECKING:
    from workers.host import Host

POOL: Any = SimpleNamespace(functions_per_host=lambda: 4)


def slots_of(tenants: int, **size: int) -> TenantSlots:
    slots = TenantSlots(PoolSize(**{"concurrency": 100, "processes": 4, "apart": 8, **size}))
    slots.known_tenants = tenants
    return slots


@pytest.mark.parametrize("tenants", [0, 1])
def test_while_one_tenant_is_known_nothing_is_bounded(tenants: int) -> None:
    slots = slots_of(tenants)
    slots.take(1, "a", "coroutines")
    assert slots.shares({}, POOL).most is None
    assert slots.hosts_for("a", {}) is None


def test_with_several_tenants_each_kind_of_slot_is_bounded() -> None:
    assert slots_of(2).shares({}, POOL).most == {"coroutines": 90, "functions": 12, "apart": 7}


@pytest.mark.parametrize(
    ("slots", "per_cent", "most"),
    [(0, 90, 0), (1, 90, 1), (2, 90, 1), (5, 90, 4), (10, 90, 9), (100, 90, 90), (100, 50, 50), (10, 1, 1)],
)
def test_a_tenant_has_its_share_and_leaves_one_slot_at_least(slots: int, per_cent: int, most: int) -> None:
    bounded = slots_of(2, concurrency=slots, tenant_most=per_cent).shares({}, POOL).most
    assert bounded is not None
    assert bounded["coroutines"] == most


def test_even_all_of_the_slots_are_all_but_one() -> None:
    bounded = slots_of(2, concurrency=10, tenant_most=100).shares({}, POOL).most
    assert bounded is not None
    assert bounded["coroutines"] == 9


def test_what_runs_and_what_begins_soon_counts_until_it_has_ended() -> None:
    slots = slots_of(2)
    slots.take(1, "a", "coroutines")
    slots.take(2, "a", "functions")
    slots.take(3, "b", "coroutines")
    starting = [(make_record(tenant="b"), "coroutines"), (make_record(tenant="c"), "apart")]
    assert slots.shares({}, POOL, starting).held == {
        "a": {"coroutines": 1, "functions": 1},
        "b": {"coroutines": 2},
        "c": {"apart": 1},
    }
    slots.give_back(1)
    slots.give_back(3)
    assert slots.shares({}, POOL).held == {"a": {"coroutines": 0, "functions": 1}}


def test_a_tenant_that_has_functions_in_as_many_hosts_as_it_may_have_gets_no_other() -> None:
    def attempts(*tenants: str) -> Any:
        return [SimpleNamespace(record=make_record(tenant=tenant)) for tenant in tenants]

    one, two, three, four = (cast("Host", f"host {number}") for number in range(1, 5))
    queues: Any = {one: attempts("a", "b"), two: attempts("a"), three: attempts("b"), four: attempts()}
    slots = slots_of(2)
    assert slots.hosts_for("a", queues) is None
    queues[four] = attempts("a", "a")
    assert slots.hosts_for("a", queues) == {one, two, four}
    assert slots.hosts_for("b", queues) is None
