"""Processes that tests start: whether they are alive, and waiting until they are gone."""

from pathlib import Path

from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
"""The working directory of processes that import modules of the tests."""


def alive(pid: int) -> bool:
    """Whether the process exists, and is more than an exit status that nobody has read."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


async def gone(*pids: int) -> None:
    """Wait until none of the processes is alive."""

    async def all_ended() -> bool:
        return not any(alive(pid) for pid in pids)

    await eventually(all_ended)
