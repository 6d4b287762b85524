"""Client of `in_tree/store_driver.py`, which makes calls of the store of another tree in a process of that tree."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.processes import running
from benchmarks.ratios import NotMeasured
from benchmarks.trees import Tree

DRIVER = Path(__file__).parent / "in_tree" / "store_driver.py"
WITHIN = 300.0
"""The longest time in seconds for an answer. It allows for a server under callgrind, which is fifty times slower."""


class StoreCalls:
    """The process that makes the calls."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._commands, self._answers = process.stdin, process.stdout

    async def ask(self, command: str) -> Mapping[str, Any]:
        """Send a command and return its answer. Raises NotMeasured when there is none."""
        self._commands.write(f"{command}\n".encode())
        try:
            line = await asyncio.wait_for(self._answers.readline(), WITHIN)
        except TimeoutError:
            raise NotMeasured(f"the store did not answer {command!r} within {WITHIN:.0f} s") from None
        if not line:
            raise NotMeasured("the store's driver ended; its own message says why")
        answer: Mapping[str, Any] = json.loads(line)
        return answer


@asynccontextmanager
async def store_calls(tree: Tree, url: str) -> AsyncIterator[StoreCalls]:
    """Run a tree's store on the Redis server at `url`, while the body runs."""
    env = {"REDIS_URL": url, "TRACKER_LOG_LEVEL": "warning"}
    async with running(str(tree.python), str(DRIVER), env=env, cwd=tree.root, pipes=True) as process:
        yield StoreCalls(process)
