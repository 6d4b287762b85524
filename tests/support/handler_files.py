"""The test's side of the files that control the handlers of `file_controlled_types`."""

from pathlib import Path

from tests.support.waiting import eventually
from tracker.domain.record import Record


async def began(directory: Path, record: Record) -> int:
    """Wait until the operation's handler has begun; the pid of its host."""
    return int(await text_of(directory / f"{record.id}.began"))


async def text_of(path: Path) -> str:
    """Wait until a file exists; its text."""

    async def there() -> bool:
        return exists(path)

    await eventually(there)
    return path.read_text()  # noqa: ASYNC240 - a small file


def exists(path: Path) -> bool:
    return path.exists()


def let_go(directory: Path, *records: Record) -> None:
    """Let the handlers of these operations go on, or all handlers when none is given."""
    for name in [record.id for record in records] or ["all"]:
        (directory / f"{name}.go").touch()
