"""The calls of a tree's own store that benchmarks make: they do what the benchmarks take them to do."""

from typing import TYPE_CHECKING

from benchmarks.in_tree import store_driver
from benchmarks.processes import ROOT
from benchmarks.store_calls import DRIVER, store_calls
from benchmarks.trees import THIS
from tracker.domain.operation import OperationStatus
from tracker.store.keys import Keys

if TYPE_CHECKING:
    from redis.asyncio import Redis

KEYS = Keys()


async def statuses(redis: "Redis", keys: list[str]) -> list[object]:
    return [await redis.hget(KEYS.operation(key), "status") for key in keys]


async def lease_of(redis: "Redis", key: str) -> float:
    score = await redis.zscore(KEYS.leases, key)
    assert isinstance(score, float)
    return score


async def test_operations_go_through_their_lives_in_batches(redis: "Redis", redis_url: str) -> None:
    async with store_calls(THIS, redis_url) as calls:
        created = await calls.ask("create 8 4")
        keys = created["keys"]
        assert await statuses(redis, keys) == [OperationStatus.NOT_STARTED] * 8
        assert await calls.ask("claim 6 3") == {"calls": 2}
        assert await statuses(redis, keys) == [OperationStatus.RUNNING] * 6 + [OperationStatus.NOT_STARTED] * 2
        lease = await lease_of(redis, keys[0])
        await calls.ask("beat 6 3")
        assert await lease_of(redis, keys[0]) > lease
        await calls.ask("succeed 2 2")
        await calls.ask("fail 1 1")
        await calls.ask("end 2 1000")
        ended = [OperationStatus.COMPLETED] * 2 + [OperationStatus.FAILED] + [OperationStatus.COMPLETED] * 2
        assert await statuses(redis, keys) == [*ended, OperationStatus.RUNNING, *[OperationStatus.NOT_STARTED] * 2]


def test_the_driver_imports_nothing_of_the_benchmarks() -> None:
    assert DRIVER == ROOT / "benchmarks" / "in_tree" / "store_driver.py"
    assert store_driver.__file__ == str(DRIVER)
    source = DRIVER.read_text()
    assert "import benchmarks" not in source
    assert "from benchmarks" not in source
