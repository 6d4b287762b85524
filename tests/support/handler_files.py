"""The files by which a test and the handlers of `file_controlled_types` in other processes talk to each other."""

from pathlib import Path

from tests.support.waiting import eventually
from tracker.domain.record import Record


async def began(directory: Path, record: Record) -> int:
    """Wait until its handler has begun; the pid of its host."""
    return int(await text_of(directory / f"{record.id}.began"))


async def text_of(path: Path) -> str:
    """What is in a file, as soon as it is there."""

    async def there() -> bool:
        return exists(path)

    await eventually(there)
    return path.read_text()  # noqa: ASYNC240 - a small file


def exists(path: Path) -> bool:
    return path.exists()


def let_go(directory: Path, *records: Record) -> None:
    """Let handlers that wait go on; all, when none is named."""
    for name in [record.id for record in records] or ["all"]:
        (directory / f"{name}.go").touch()
