"""An executor over a fork server, without Redis."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from tests.support import file_controlled_types
from tests.support.records import make_record
from tests.support.waiting import eventually
from tracker.domain.policy import Policy
from tracker.domain.record import Record
from tracker.domain.transitions import Stage
from tracker.domain.type_modules import load_types
from tracker.domain.type_registry import TypeRegistry, separate_registry
from tracker.runtime.background import beside
from workers.completion import Completion
from workers.executor import Executor
from workers.fork_server import ForkServer
from workers.handler_rooms import isolated_types, kinds_of
from workers.pool import PoolSize


def registry(*names: str) -> TypeRegistry:
    """Some of the file-controlled types; `waits` is the name of `#executor.waits`."""
    with separate_registry():
        types = load_types([file_controlled_types.__name__])
    chosen = TypeRegistry()
    for name in names:
        chosen.add(types[f"executor.{name}"])
    return chosen


def running_record(kind: str, **policy: Any) -> Record:
    """A record of a file-controlled type, as a claim of OperationWorker returns it."""
    return make_record(type=f"#executor.{kind}", stage=Stage.RUNNING, attempt=1, ticket=1, policy=Policy(**policy))


class Completions(dict[str, Completion]):
    """The attempts that an executor has ended, by the operation's id."""

    def put(self, completion: Completion) -> None:
        assert completion.record.id not in self, "an attempt ends once"
        self[completion.record.id] = completion

    async def of(self, record: Record) -> Completion:
        """Wait for the end of an operation's attempt."""

        async def ended() -> Completion | None:
            return self.get(record.id)

        return await eventually(ended)


@asynccontextmanager
async def running_executor(
    fork_server: ForkServer, types: TypeRegistry, size: PoolSize, *, block_limit: float = 0.0
) -> AsyncIterator[tuple[Executor, Completions]]:
    """An executor over a fork server that ends with the block, and all hosts with it."""
    completions = Completions()
    await fork_server.open()
    executor = Executor(
        fork_server,
        kinds_of(types),
        size,
        worker="w",
        on_completion=completions.put,
        apart_types=isolated_types(types),
        block_limit=block_limit,
    )
    await executor.pool.open()
    try:
        async with beside(executor.watch()):
            yield executor, completions
    finally:
        await executor.pool.close()
        await fork_server.close()
