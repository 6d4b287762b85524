"""What a review of the HTTP side and the command line found, each as a test."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from tests.support.http import COLLECTION, Api, open_api
from tracker.api.headers import forwarded
from tracker.api.request_bodies import parse_object
from tracker.cli.http_client import Client
from tracker.cli.output import CommandFailed, Exit, print_table
from tracker.config import Settings
from tracker.errors import ConfigurationError
from workers.handlers import sources
from workers.handlers.media import MediaError, MediaSubcode

JSON = {"Content-Type": "application/json"}
PROXIED = {"Forwarded": 'for=1.2.3.4;proto=http;host=spoofed, for="[::1]:9";Proto=HTTPS;host="ops.example.org:8443"'}


@pytest.mark.parametrize(
    ("lines", "parameters"),
    [
        ((), {}),
        (("proto=https",), {"proto": "https"}),
        (("for=a;proto=http, For=b ; PROTO=https",), {"for": "b", "proto": "https"}),
        (("proto=http", "host=b"), {"host": "b"}),
        (('host="a;b,c=\\"d\\""',), {"host": 'a;b,c="d"'}),
    ],
)
def test_the_last_element_of_forwarded_counts(lines: tuple[str, ...], parameters: dict[str, str]) -> None:
    assert forwarded(lines) == parameters


async def test_a_trusted_proxy_may_speak_the_standard_forwarded(settings: Settings) -> None:
    async with open_api(settings, trusted_proxies=("127.0.0.1",)) as api:
        answer = await api.post(json={}, headers=PROXIED)
        assert answer.headers["Location"].startswith(f"https://ops.example.org:8443{COLLECTION}/")
        partial = await api.post(json={}, headers={"Forwarded": "proto=https", "Host": "own.example.org"})
        assert partial.headers["Location"].startswith(f"https://own.example.org{COLLECTION}/")
        odd = await api.post(json={}, headers={"Forwarded": 'proto=gopher;host="a b"'})
        assert odd.headers["Location"].startswith(f"{api.url}{COLLECTION}/")


async def test_a_clients_forwarded_does_not_mix_with_what_its_proxy_wrote(settings: Settings) -> None:
    async with open_api(settings, trusted_proxies=("127.0.0.1",)) as api:
        written = {"X-Forwarded-Proto": "https", "Host": "own.example.org", "Forwarded": "host=evil.example.org"}
        answer = await api.post(json={}, headers=written)
        assert answer.headers["Location"].startswith(f"https://own.example.org{COLLECTION}/")


async def test_forwarded_from_anybody_else_does_not_count(settings: Settings) -> None:
    async with open_api(settings, trusted_proxies=("10.0.0.0/8",)) as api:
        answer = await api.post(json={}, headers=PROXIED)
        assert answer.headers["Location"].startswith(f"{api.url}{COLLECTION}/")


async def test_an_accept_header_of_two_lines_is_one_list(api: Api) -> None:
    request = (
        f"GET {COLLECTION} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer test-token\r\n"
        "Accept: text/html\r\nAccept: application/json\r\nConnection: close\r\n\r\n"
    )
    assert (await api.raw(request.encode())).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress"])
async def test_an_encoding_that_cannot_be_undone_is_refused_as_such(api: Api, encoding: str) -> None:
    answer = await api.post(data=b"{}", headers={**JSON, "Content-Encoding": encoding})
    assert (answer.status, answer.error["code"]) == (415, "unsupportedMediaType")
    assert "gzip" in answer.error["message"]


def test_a_long_name_around_many_members_costs_no_more_than_its_bytes() -> None:
    name, items = "\N{GRINNING FACE}" + "n" * 500_000, 250_000
    body = f'{{"paired": "\\ud83d\\ude00", "{name}": [{"1," * items}1]}}'.encode()
    began = time.process_time()
    assert len(parse_object(body)[name]) == items + 1
    assert time.process_time() - began < 3


@pytest.mark.parametrize("location", ["mailto:x@y", "data:,x", "javascript:x", "file:///etc/passwd"])
async def test_a_redirect_to_what_is_no_server_is_refused(location: str) -> None:
    result = await refused_redirect(location)
    assert result.subcode is MediaSubcode.UNREADABLE


async def test_a_redirect_may_not_bring_credentials() -> None:
    result = await refused_redirect("http://:password@{host}/else")
    assert result.subcode is MediaSubcode.UNREADABLE


async def refused_redirect(location: str) -> MediaError:
    async def redirect(request: web.Request) -> web.Response:
        if request.path == "/else":
            return web.Response(body=b"followed")
        return web.Response(status=302, headers={"Location": location.format(host=request.host)})

    app = web.Application()
    app.router.add_get("/{path:.*}", redirect)
    async with TestServer(app) as server:
        settings = Settings(media_hosts=(f"{server.host}:{server.port}",))
        with pytest.raises(MediaError) as refused:
            await sources.read(str(server.make_url("/a.wav")), settings)
    return refused.value


@pytest.mark.parametrize("credentials", ["user:p@ss@", "user@corp:secret@", ":@@"])
def test_messages_show_nothing_of_credentials_that_hold_an_at_sign(credentials: str) -> None:
    assert sources.shown(f"http://{credentials}host/a@b.wav") == "http://host/a@b.wav"


@pytest.mark.parametrize(
    ("url", "token"), [("http://[", ""), ("http://h:99999", ""), ("ftp://h", ""), ("", "two\nlines")]
)
async def test_an_address_or_token_of_no_use_is_a_usage_error(api: Api, url: str, token: str) -> None:
    async with Client(url or api.url, token) as cli:
        with pytest.raises(CommandFailed) as stop:
            await cli.get("call", "id")
    assert stop.value.code is Exit.USAGE


async def test_one_may_wait_without_end(api: Api) -> None:
    operation = await api.created()
    await api.post(f"{COLLECTION}/{operation['id']}/cancel")
    async with Client(api.url, "test-token") as cli:
        ended = await cli.wait("call-1", operation["id"], float("inf"), lambda _: None)
    assert ended["status"] == "Failed"


def test_a_table_does_not_obey_what_other_clients_wrote(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("clientContext",), [["\x1b]0;title\x07red\x9b31m\rover"]])
    shown = capsys.readouterr().out
    assert "\\x1b]0;title\\x07red\\x9b31m\\x0dover" in shown
    assert not set(shown) & {"\x1b", "\x07", "\x9b", "\r"}


async def test_an_address_that_cannot_be_listened_on_is_a_configuration_error(settings: Settings) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for host in ("127.0.0.1", "192.0.2.1"):  # in use, and nobody's here (RFC 5737)
            with pytest.raises(ConfigurationError, match=f"{host} port {port}"):
                async with open_api(settings, host=host, port=port):
                    pass


@pytest.mark.parametrize("command", ["serve", "worker", "dev"])
@pytest.mark.usefixtures("settings")
def test_a_teams_module_is_found_in_the_working_directory(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "team_operations.py").write_text(
        "from tracker.errors import ConfigurationError\nraise ConfigurationError('found by the import')\n"
    )
    monkeypatch.setenv("TRACKER_TYPES", "team_operations")
    script = Path(sys.executable).with_name("tracker")
    ended = subprocess.run([script, command], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == Exit.USAGE
    assert ended.stderr.splitlines()[-1].startswith("tracker: TRACKER_TYPES: team_operations: found by the import")
