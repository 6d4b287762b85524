"""nginx and HAProxy in front of an API, with the files that docs/deploying.md shows."""

import os
import shutil
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from tests.docs.pages import ROOT, blocks
from tests.support.api_client import Api, open_api
from tests.support.waiting import LONGEST_WAIT
from tracker.config import Settings
from tracker.runtime.dev_valkey import until

NAME = "tracker.contoso.example"
PREFIX = "/tracker"
KINDS = ("nginx", "haproxy")
TIMEOUTS = "75s"
"""How both files write the time for which a connection may be silent."""


_FILES = {"nginx": "tracker.nginx.conf", "haproxy": "tracker.haproxy.cfg"}


def missing(kind: str) -> str:
    """The programs that a test of this proxy needs and this machine does not have; "" if it has all."""
    return ", ".join(name for name in (kind, "openssl") if _found(name) is None)


def _found(name: str) -> str | None:
    """Where a program is. Debian has both proxies in a directory that is in the path of root only."""
    return shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin")))


def _program(name: str) -> str:
    path = _found(name)
    assert path is not None
    return path


def documented(kind: str) -> str:
    """The file of a proxy, as the page shows it."""
    (block,) = (block for block in blocks(ROOT / "docs" / "deploying.md") if block.path == _FILES[kind])
    return block.text


@dataclass(frozen=True)
class Ports:
    """Where a proxy listens: with TLS, in plain text, and as a proxy for TCP (HAProxy only)."""

    tls: int
    plain: int
    tcp: int


@dataclass(frozen=True)
class Proxied:
    """An API, a client of it behind a proxy, and the proxy's ports."""

    direct: Api
    api: Api
    ports: Ports


class Resolver(AbstractResolver):
    """Finds every name at this machine."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        at = "127.0.0.1"
        return [ResolveResult(hostname=host, host=at, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST)]

    async def close(self) -> None:
        """Nothing is open."""


@asynccontextmanager
async def behind(
    kind: str, directory: Path, settings: Settings, *, timeouts: str = TIMEOUTS, more: str = "", **changes: Any
) -> AsyncIterator[Proxied]:
    """Run an API and a proxy in front of it.

    `timeouts` stands in place of the file's own. `more`: further lines for the place where requests are passed on.
    """
    certificate, key = _certificate(directory)
    context = ssl.create_default_context(cafile=certificate)
    timeout = aiohttp.ClientTimeout(total=2 * LONGEST_WAIT)
    connector = aiohttp.TCPConnector(resolver=Resolver(), ssl=context, family=socket.AF_INET)
    async with (
        open_api(settings, **{"trusted_proxies": ("127.0.0.1",), **changes}) as direct,
        aiohttp.ClientSession(timeout=timeout, connector=connector) as session,
    ):
        ports = Ports(*_free_ports(3))
        text = (
            documented(kind).replace(TIMEOUTS, timeouts).replace("127.0.0.1:8080", f"127.0.0.1:{URL(direct.url).port}")
        )
        write = _nginx if kind == "nginx" else _haproxy
        with _running(
            write(text, directory, ports, certificate, key, more), (ports.tls, ports.plain), directory / "log"
        ):
            yield Proxied(direct, Api(f"https://{NAME}:{ports.tls}{PREFIX}", session), ports)


def _nginx(text: str, directory: Path, ports: Ports, certificate: Path, key: Path, more: str) -> Sequence[str]:
    """Write nginx's files; returns its command."""
    for old, new in (
        ("listen 443 ssl;", f"listen 127.0.0.1:{ports.tls} ssl; listen 127.0.0.1:{ports.plain};"),
        ("/etc/ssl/tracker.crt", str(certificate)),
        ("/etc/ssl/tracker.key", str(key)),
        ("proxy_http_version 1.1;", f"proxy_http_version 1.1; {more}"),
    ):
        assert old in text
        text = text.replace(old, new)
    (directory / "tracker.nginx.conf").write_text(text)
    user = "user root;" if os.geteuid() == 0 else ""
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = " ".join(f"{kind}_temp_path {directory}/{kind};" for kind in kinds)
    (directory / "nginx.conf").write_text(
        f"{user} daemon off; worker_processes 1; pid {directory}/pid; error_log stderr;\n"
        f"events {{}}\nhttp {{ access_log off; {paths} include {directory}/tracker.nginx.conf; }}\n"
    )
    return (_program("nginx"), "-e", "stderr", "-p", str(directory), "-c", str(directory / "nginx.conf"))


def _haproxy(text: str, directory: Path, ports: Ports, certificate: Path, key: Path, more: str) -> Sequence[str]:
    """Write HAProxy's files; returns its command."""
    pem = directory / "tracker.pem"
    pem.write_text(certificate.read_text() + key.read_text())
    bind = "bind :443 ssl crt /etc/ssl/tracker.pem"
    assert bind in text
    text = text.replace(bind, f"bind 127.0.0.1:{ports.tls} ssl crt {pem}\n    bind 127.0.0.1:{ports.plain}\n    {more}")
    server = next(line for line in text.splitlines() if line.strip().startswith("server "))
    text += f"\n\nlisten tcp\n    mode tcp\n    bind 127.0.0.1:{ports.tcp}\n{server}\n"
    (directory / "tracker.haproxy.cfg").write_text(text)
    return (_program("haproxy"), "-db", "-f", str(directory / "tracker.haproxy.cfg"))


@contextmanager
def _running(command: Sequence[str], ports: Sequence[int], log: Path) -> Iterator[None]:
    """Run a proxy until it is no longer needed. Fails with its log if it does not listen at all these ports."""
    with log.open("wb") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            assert until(lambda: all(map(_listens, ports)) or process.poll() is not None, LONGEST_WAIT)
            assert process.poll() is None, log.read_text()
            yield
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def _certificate(directory: Path) -> tuple[Path, Path]:
    """Make a certificate of NAME, which signs itself, and its key."""
    certificate, key = directory / "tracker.crt", directory / "tracker.key"
    words = (_program("openssl"), "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")
    names = ("-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-days", "1")
    subprocess.run((*words, *names, "-keyout", key, "-out", certificate), check=True, capture_output=True)
    return certificate, key
