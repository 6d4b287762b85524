"""`tracker serve --processes N`: several processes behind one port."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chaos.faults import children
from tests.support.waiting import LONGEST_WAIT
from tracker.config import Settings
from tracker.runtime.dev_valkey import until

SERVE = (sys.executable, "-m", "tracker.cli.main", "serve")


@contextmanager
def serving(*options: str, port: str = "0") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The keeper's process and the URL that it says."""
    words = (*SERVE, "--port", port, "--auth", "none", *options)
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("ready http://127.0.0.1:")
            yield process, line.split()[1]
        finally:
            process.terminate()
            process.wait(LONGEST_WAIT)


def listeners(url: str) -> set[int]:
    """Inodes of the sockets that listen on the URL's port."""
    port = f"{int(url.rsplit(':', 1)[1]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {int(row[9]) for row in rows if row[1].endswith(f":{port}") and row[3] == "0A"}


def healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/healthz", timeout=LONGEST_WAIT) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="looks into /proc")
def test_so_many_processes_listen_and_one_that_dies_is_replaced(settings: Settings) -> None:
    assert settings.redis_url
    with serving("--processes", "2") as (process, url):
        assert len(listeners(url)) == 2
        before = set(children(process.pid))
        assert len(before) == 2
        killed = min(before)
        os.kill(killed, signal.SIGKILL)
        assert until(lambda: len({*children(process.pid)} - {killed}) == 2 and len(listeners(url)) == 2, LONGEST_WAIT)
        assert all(healthy(url) for _ in range(20))
        process.send_signal(signal.SIGTERM)
        assert process.wait(LONGEST_WAIT) == 0
        assert not healthy(url)


def test_a_port_that_is_in_use_is_an_error_before_anything_starts(settings: Settings) -> None:
    assert settings.redis_url
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # even one that would share it
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        words = (*SERVE, "--port", str(port), "--processes", "2")
        ended = subprocess.run(words, capture_output=True, text=True, timeout=LONGEST_WAIT, check=False)
    assert ended.returncode == 2
    assert f"127.0.0.1 port {port}: Address already in use" in ended.stderr


@pytest.mark.parametrize(("before", "after"), [("1", "2"), ("2", "1"), ("2", "2"), ("1", "1")])
def test_closed_connections_of_an_earlier_run_do_not_keep_the_port(settings: Settings, before: str, after: str) -> None:
    """The server closes its connections at its end, so they are in TIME-WAIT on its side."""
    assert settings.redis_url
    with serving("--processes", before) as (_, url):
        client = http.client.HTTPConnection("127.0.0.1", int(url.rsplit(":", 1)[1]), timeout=LONGEST_WAIT)
        client.request("GET", "/healthz", headers={"Connection": "close"})
        assert client.getresponse().read()
        client.close()
    with serving("--processes", after, port=url.rsplit(":", 1)[1]) as (_, again):
        assert again == url
        assert healthy(url)


def test_a_process_that_refuses_its_configuration_ends_all(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.redis_url
    monkeypatch.setenv("TRACKER_TOKENS", "nonsense")
    ended = subprocess.run(
        (*SERVE, "--port", "0", "--processes", "2"), capture_output=True, text=True, timeout=LONGEST_WAIT, check=False
    )
    assert ended.returncode == 2
    assert "is not of the form name:tenant:sha256-of-token" in ended.stderr
