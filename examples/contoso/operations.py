"""Example of a team's own operation types. The setting TRACKER_TYPES=examples.contoso.operations loads this module."""

import asyncio
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from tracker import Context, Operation, Rejected, ResultInfo, Retry, handles

CHUNK_BYTES = 1024 * 1024


class HashFile(Operation, type="#contoso.hashFileOperation"):
    """Computes the SHA-256 of a file below CONTOSO_FILES_DIR. The file is hashed `rounds` times in a row."""

    path: str = Field(min_length=1, max_length=1024)
    rounds: int = Field(1, ge=1, le=1_000_000)
    digest: str | None = Field(None, json_schema_extra={"readOnly": True})
    size: int | None = Field(None, json_schema_extra={"readOnly": True})


@handles(HashFile, run_within="10m")
def hash_file(operation: HashFile, context: Context) -> None:
    """Hash the file. This is a plain function, which has a process of its own, because hashing keeps a core busy."""
    path = _below(Path(os.environ.get("CONTOSO_FILES_DIR", ".")), operation.path)
    operation.size = path.stat().st_size
    whole = max(1, operation.size * operation.rounds)
    hashed, reported, digest = 0, 0, hashlib.sha256()
    for chunk in _chunks(path, operation.rounds):
        digest.update(chunk)
        hashed += len(chunk)
        percent = 100 * hashed // whole
        if percent > reported:
            reported = percent
            context.progress(percent, f"{operation.rounds} x {operation.size} bytes")
    operation.digest = digest.hexdigest()


def _below(directory: Path, name: str) -> Path:
    path = (directory / name).resolve() if "\0" not in name else directory
    if not path.is_relative_to(directory.resolve()) or not path.is_file():
        raise Rejected(f"{name!r} is not a file below CONTOSO_FILES_DIR")
    return path


def _chunks(path: Path, rounds: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        for _ in range(rounds):
            file.seek(0)
            while chunk := file.read(CHUNK_BYTES):
                yield chunk


class WaitForPort(Operation, type="#contoso.waitForPortOperation"):
    """Waits until a process on this machine listens on a TCP port."""

    host: Literal["127.0.0.1", "::1", "localhost"] = "127.0.0.1"
    port: int = Field(ge=1, le=65535)


@handles(WaitForPort, run_within="5s", attempts=60)
async def wait_for_port(operation: WaitForPort, context: Context) -> ResultInfo:
    """Try one connection. If that fails, the tracker makes the next attempt a second later."""
    await context.progress(detail=f"try {context.attempt}")
    try:
        _, writer = await asyncio.open_connection(operation.host, operation.port)
    except OSError as error:
        raise Retry(f"port {operation.port} does not answer yet", after="1s") from error
    writer.close()
    await writer.wait_closed()
    return ResultInfo(code=200, message=f"Port {operation.port} answered at try {context.attempt}.")
