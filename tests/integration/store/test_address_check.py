"""What is wrong with the address of Redis, as one sentence, within three seconds."""

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.dev_stack import TRACKER, environment
from tests.support.redis_servers import Server
from tests.support.waiting import LONGEST_WAIT, eventually
from tracker.config import Settings
from tracker.runtime.dev_valkey import start_server
from tracker.store.address_check import why_unusable


def of(settings: Settings, url: str) -> str | None:
    return why_unusable(settings.model_copy(update={"redis_url": url}))


async def asked(settings: Settings, url: str) -> str:
    return await asyncio.to_thread(of, settings, url) or "nothing is wrong"


async def test_the_reason_names_the_password(settings: Settings, away: Server) -> None:
    assert await asked(settings, away.url) == "nothing is wrong"
    with_password = away.url.replace("unix://", "unix://:wrong@")
    await away.store.redis.config_set("requirepass", "secret")
    assert "REDIS_URL has none" in await asked(settings, away.url)
    assert "refuses the user name or the password" in await asked(settings, with_password)


async def test_the_reason_names_the_database(settings: Settings, away: Server) -> None:
    assert "names a database" in await asked(settings, f"{away.url}?db=9999")


@contextmanager
def answering(answer: bytes) -> Iterator[int]:
    """A server that sends this to whoever connects, and closes the connection; it is silent for an empty text."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                connection.sendall(answer)
                connection.close()

        if answer:
            threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x03\x00\x02\x02\x46"])
async def test_the_reason_is_that_no_redis_answers_or_that_it_speaks_tls(settings: Settings, answer: bytes) -> None:
    with answering(answer) as port:
        assert "is no Redis server, or only one side speaks TLS" in await asked(settings, f"redis://127.0.0.1:{port}")


async def test_the_reason_is_that_nothing_comes_back(settings: Settings) -> None:
    with answering(b"") as port:
        assert "does not answer within 2 s" in await asked(settings, f"redis://127.0.0.1:{port}")


async def test_the_reason_is_that_the_server_speaks_no_tls(
    settings: Settings, tmp_path: Path, unused_tcp_port_factory: Callable[[], int]
) -> None:
    port = unused_tcp_port_factory()
    server = await asyncio.to_thread(start_server, tmp_path / "plain", port=port)
    try:
        assert "Perhaps it speaks no TLS" in await asked(settings, f"rediss://127.0.0.1:{port}")
    finally:
        await asyncio.to_thread(server.stop)


@pytest.mark.parametrize("command", [("doctor",), ("why", "0" * 32)])
def test_a_command_says_it_in_one_line(command: tuple[str, ...], tmp_path: Path) -> None:
    url = f"unix://{tmp_path}/nobody.sock"
    ended = subprocess.run(
        (*TRACKER, *command), env=environment({"REDIS_URL": url}), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 3
    [line] = ended.stderr.splitlines()
    assert line.startswith("tracker: Redis cannot be used at REDIS_URL: ")


async def test_serve_is_not_ready_before_redis_answers(away: Server, tmp_path: Path) -> None:
    await away.go_away("stopped")
    log = tmp_path / "log"
    changes = {"REDIS_URL": away.url}
    with (
        log.open("w") as output,
        subprocess.Popen(  # noqa: ASYNC220 - it starts at once
            (sys.executable, "-m", "tracker.cli.main", "serve", "--auth", "none", "--port", "0"),
            stdout=output,
            stderr=output,
            env=environment(changes),
        ) as process,
    ):
        try:

            async def has(text: str) -> bool:
                return text in log.read_text()

            await eventually(lambda: has("store_unusable"))
            told = log.read_text()
            assert "api_listening" in told
            assert "api_ready" not in told
            assert "ready http" not in told
            assert "Traceback" not in told
            await away.come_back("stopped")
            await eventually(lambda: has("\nready http://"))
        finally:
            process.kill()
            await asyncio.to_thread(process.wait, LONGEST_WAIT)
