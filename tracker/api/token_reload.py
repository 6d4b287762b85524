"""Reads the file of tokens again while the API runs: when the file changes, and when somebody asks for it."""

import asyncio
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import structlog

from tracker.api.auth import Callers
from tracker.api.token_lines import FileState, read_callers, text_and_state
from tracker.config import Settings
from tracker.errors import ConfigurationError
from tracker.service import Caller

log = structlog.get_logger()

POLL_INTERVAL: Final = 1.0
"""Seconds between two looks at the file."""
_NEVER: Final = FileState(inode=-1)
"""The state of no file: what was not read yet."""


class TokenReloader:
    """Replaces the callers when the file of tokens has changed.

    A change counts when the file was the same at two looks: whoever writes it has finished then. A file that is read on
    request counts as it is. A file that cannot be used changes nothing, and is read again when it has changed. So does
    an empty file: a program that writes a file truncates it first, and on a full disk it stays so.
    """

    def __init__(self, settings: Settings, callers: Callers, asked: asyncio.Event) -> None:
        self._settings, self._callers, self._asked = settings, callers, asked
        path = settings.tokens_file if settings.auth == "tokens" else None
        self._path = path if path is not None and _is_regular(path) else None
        self._seen = self._read = _NEVER

    async def run(self) -> None:
        """Look at the file for ever. The first look reads it again, because it may have changed since the start."""
        while True:
            asked = await self._wait()
            if self._path is not None:
                await self._look(self._path, asked=asked)
            elif asked:
                log.info("tokens_not_reloaded", reason="TRACKER_TOKENS_FILE does not name a regular file")

    async def _wait(self) -> bool:
        """Wait for the next look. Returns whether somebody has asked for it."""
        try:
            async with asyncio.timeout(POLL_INTERVAL):
                await self._asked.wait()
        except TimeoutError:
            return False
        self._asked.clear()
        return True

    async def _look(self, path: Path, *, asked: bool) -> None:
        found = await asyncio.to_thread(FileState.of, path)  # a file system of the network may not answer
        settled, self._seen = found == self._seen, found
        if asked or (settled and found != self._read):
            self._read = found
            await self._reload(path, asked=asked)
        self._callers.held.end_again()

    async def _reload(self, path: Path, *, asked: bool) -> None:
        try:
            read = await asyncio.to_thread(text_and_state, path)
            if read is None:
                self._read = _NEVER  # somebody writes the file now, so the next looks decide
                return
            text, self._read = read
            by_hash = await asyncio.to_thread(self._parse, path, text)
        except ConfigurationError as error:
            log.warning("tokens_not_reloaded", reason=error.message, callers=len(self._callers))
            return
        added, removed = self._callers.replace(by_hash)
        if asked or added or removed:
            log.info("tokens_reloaded", file=str(path), callers=len(self._callers), added=added, removed=removed)

    def _parse(self, path: Path, text: str) -> Mapping[str, Caller]:
        by_hash = read_callers(self._settings, text)
        if not text.strip() and len(by_hash) < len(self._callers):
            raise ConfigurationError(f"{path} is empty; a file without tokens has a line that starts with #")
        return by_hash


def _is_regular(path: Path) -> bool:
    """Whether a file can be read again. A pipe, as of a shell's `<(...)`, is empty once it was read."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return True  # it was there at the start, and may come back
