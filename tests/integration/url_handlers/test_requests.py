"""URL handlers against real servers: the request, the meaning of each response, and a cancel."""

import asyncio
import base64
import hashlib
import json
import os
import re
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import Field

from tests.support.api_client import COLLECTION, open_api
from tests.support.waiting import eventually, soon
from tracker import Context, Operation, Rejected, ResultInfo, Retry, handles_url
from tracker.config import Settings
from tracker.domain.operation import Json
from tracker.domain.type_registry import current_registry
from tracker.url_handlers import request as url_request
from tracker.url_handlers.response import (
    ANSWER_LIMIT,
    LONGEST_RETRY_AFTER,
    MESSAGE_SHOWN,
    BadAnswer,
    HandlerUnreachable,
)

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "url-handlers.md").read_text(encoding="utf-8")
DECLARATION, RECEIVER = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
BY_HAND = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[-1]
KEY = "0123456789abcdef0123456789abcdef"
OLD, NEW = (f"whsec_{base64.b64encode(bytes([number]) * 32).decode()}" for number in (1, 2))


class Reverse(Operation, type="#urls.reverse"):
    text: str = "abc"
    preset: str = "plain"
    turned_text: str | None = Field(None, json_schema_extra={"readOnly": True})
    size: int | None = Field(None, json_schema_extra={"readOnly": True})


@dataclass
class Given:
    """What a worker gives a handler beside the operation."""

    attempt: int = 1
    operation_id: str = "reverse.1"
    call_id: str = "call-1"
    idempotency_key: str = KEY


@dataclass(frozen=True)
class Sent:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes


class Receiver:
    """A server that keeps what it is sent and answers what a test wants."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.answer: Callable[[], web.StreamResponse] = web.Response
        self.server = TestServer(self._application())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.port}/reverse?v=2"

    def _application(self) -> web.Application:
        async def receive(request: web.Request) -> web.StreamResponse:
            headers = {name.lower(): value for name, value in request.headers.items()}
            self.sent.append(Sent(request.path_qs, {"method": request.method, **headers}, await request.read()))
            return self.answer()

        application = web.Application()
        application.router.add_route("*", "/{path:.*}", receive)
        return application


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    await receiver.server.start_server()
    yield receiver
    await receiver.server.close()


@pytest.fixture(autouse=True)
def no_configured_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRACKER_URL_SECRETS", raising=False)
    url_request._keys_from_settings.cache_clear()


async def run(url: str, operation: Operation | None = None, given: Given | None = None, **options: Any) -> Any:
    """Run an attempt's handler, as a worker does."""
    operation = operation or Reverse()
    handles_url(type(operation), url, **options)
    handler = cast("Callable[..., Awaitable[Any]]", current_registry()[operation.odata_type].handler)
    return await handler(operation, cast("Context", given or Given()))


def told(status: int = 200, /, **body: Any) -> Callable[[], web.Response]:
    return lambda: web.json_response(body, status=status)


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """RFC 2104, by hand."""
    block = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in block) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in block) + inner).digest()


def signature(secret: str, sent: Sent) -> str:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{sent.headers['webhook-id']}.{sent.headers['webhook-timestamp']}.".encode() + sent.body
    return "v1," + base64.b64encode(hmac_sha256(key, signed)).decode()


async def test_the_operation_is_posted_as_the_api_shows_it_with_attempt_and_key(receiver: Receiver) -> None:
    members = {"text": "äöü", "extra": {"deep": [1, None]}, "callId": "a lie"}
    await run(receiver.url, Reverse.from_members(members, "mine"), Given(attempt=3))
    (sent,) = receiver.sent
    assert sent.path == "/reverse?v=2"
    assert sent.headers["method"] == "POST"
    assert sent.headers["content-type"] == "application/json"
    assert sent.headers["idempotency-key"] == KEY
    assert json.loads(sent.body) == {
        "@odata.type": "#urls.reverse",
        "id": "reverse.1",
        "callId": "call-1",
        "status": "Running",
        "clientContext": "mine",
        "attempt": 3,
        "idempotencyKey": KEY,
        "text": "äöü",
        "extra": {"deep": [1, None]},
    }


async def test_a_request_is_signed_over_id_time_and_body(receiver: Receiver) -> None:
    before = int(time.time())
    await run(receiver.url, secret=NEW)
    (sent,) = receiver.sent
    assert sent.headers["webhook-id"] == KEY
    assert before <= int(sent.headers["webhook-timestamp"]) <= time.time()
    assert sent.headers["webhook-signature"] == signature(NEW, sent)


async def test_every_secret_of_a_rotation_signs(receiver: Receiver) -> None:
    await run(receiver.url, secret=[NEW, OLD])
    (sent,) = receiver.sent
    assert sent.headers["webhook-signature"] == f"{signature(NEW, sent)} {signature(OLD, sent)}"


async def test_every_attempt_has_the_same_message_id(receiver: Receiver) -> None:
    for attempt in (1, 2):
        await run(receiver.url, given=Given(attempt=attempt), secret=NEW)
    first, second = receiver.sent
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == KEY
    assert first.body != second.body
    assert second.headers["webhook-signature"] == signature(NEW, second)


@pytest.mark.parametrize(
    ("words", "signing"),
    [(OLD, OLD), (f"{OLD}, #Urls.reverse={NEW}", NEW), (f"#urls.reverse = {NEW}\n#other={OLD}", NEW)],
)
async def test_secrets_come_from_the_settings_when_the_declaration_has_none(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch, words: str, signing: str
) -> None:
    monkeypatch.setenv("TRACKER_URL_SECRETS", words)
    await run(receiver.url)
    assert receiver.sent[0].headers["webhook-signature"] == signature(signing, receiver.sent[0])


async def test_a_declarations_own_secret_wins(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKER_URL_SECRETS", f"#urls.reverse={OLD}")
    await run(receiver.url, secret=NEW)
    assert receiver.sent[0].headers["webhook-signature"] == signature(NEW, receiver.sent[0])


async def test_without_any_secret_nothing_is_signed(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKER_URL_SECRETS", f"#other={OLD}")
    await run(receiver.url)
    assert "webhook-signature" not in receiver.sent[0].headers


@pytest.mark.parametrize(
    "answer",
    [
        web.Response,
        lambda: web.Response(status=204),
        lambda: web.Response(status=202, text="not yet"),
        lambda: web.Response(text="<p>fine</p>", content_type="text/html"),
        lambda: web.Response(body=b" \n", content_type="application/json"),
        told(201),
        told(200, resultInfo=None, status="Running", text="other"),
    ],
)
async def test_any_2xx_is_done(receiver: Receiver, answer: Callable[[], web.Response]) -> None:
    receiver.answer = answer
    operation = Reverse()
    assert await run(receiver.url, operation) is None
    assert operation.text == "abc"


async def test_a_result_has_result_info_and_the_types_result_members(receiver: Receiver) -> None:
    info = {"@odata.type": "#microsoft.graph.resultInfo", "code": 201, "subcode": 3, "message": "turned"}
    receiver.answer = told(resultInfo=info, turnedText="cba", size=3, text="overwritten", surprise=1)
    operation = Reverse(text="abc")
    assert await run(receiver.url, operation) == ResultInfo(code=201, subcode=3, message="turned")
    assert (operation.turned_text, operation.size) == ("cba", 3)
    assert operation.text == "abc"
    assert not operation.model_extra


async def test_any_kind_of_json_is_read(receiver: Receiver) -> None:
    kind = "application/vnd.contoso+json; charset=utf-8"
    receiver.answer = lambda: web.Response(body=b'{"turnedText": "cba"}', headers={"Content-Type": kind})
    operation = Reverse()
    await run(receiver.url, operation)
    assert operation.turned_text == "cba"


async def test_json_without_a_content_type_is_read() -> None:
    async def receive(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 200 OK\r\n\r\n{"turnedText": "cba"}')
        await writer.drain()

    operation = Reverse()
    async with raw(receive) as url:
        await run(url, operation)
    assert operation.turned_text == "cba"


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda: web.Response(body=b"{", content_type="application/json"), "is not a JSON object"),
        (lambda: web.Response(body=b"[" * 60_000, content_type="application/json"), "is not a JSON object"),
        (lambda: web.Response(body=b'{"size": NaN}', content_type="application/json"), "is not a JSON object"),
        (lambda: web.Response(body=b'"\xff"', content_type="application/json"), "is not a JSON object"),
        (lambda: web.json_response(["done"]), "is not a JSON object"),
        (told(resultInfo="done"), "resultInfo: Input should be a valid dictionary"),
        (told(resultInfo={"code": "200"}), "resultInfo: Input should be a valid integer"),
        (told(resultInfo={"code": 404}), "answered 200, but its resultInfo has the code 404"),
        (told(size="many"), "size: Input should be a valid integer"),
        (told(turnedText=5), "turnedText: Input should be a valid string"),
        (told(turnedText="x" * ANSWER_LIMIT), f"more than {ANSWER_LIMIT} bytes"),
        (lambda: web.Response(status=302, headers={"Location": "/elsewhere"}), "302; redirects are not followed"),
        (lambda: web.Response(status=307, headers={"Location": "/elsewhere"}), "307; redirects are not followed"),
        (lambda: web.Response(status=304), "answered 304; redirects"),
        (lambda: web.Response(status=500, text="a stack trace"), r"^The URL handler answered 500\.$"),
        (lambda: web.Response(status=502), "answered 502"),
        (lambda: web.Response(status=408), "answered 408"),
        (lambda: web.Response(status=425), "answered 425"),
    ],
)
async def test_what_is_neither_result_nor_refusal_is_a_bad_answer(
    receiver: Receiver, answer: Callable[[], web.Response], message: str
) -> None:
    receiver.answer = answer
    with pytest.raises(BadAnswer, match=message):
        await run(receiver.url)
    assert len(receiver.sent) == 1


async def test_an_answer_that_is_packed_unasked_is_not_unpacked(receiver: Receiver) -> None:
    def packed() -> web.Response:
        response = web.json_response({"turnedText": "x" * 60_000})
        response.enable_compression(web.ContentCoding.gzip)
        return response

    receiver.answer = packed
    with pytest.raises(BadAnswer, match="is not a JSON object"):
        await run(receiver.url)


async def test_an_answer_of_just_the_limit_is_read(receiver: Receiver) -> None:
    frame = len(json.dumps({"turnedText": ""}))
    receiver.answer = told(turnedText="x" * (ANSWER_LIMIT - frame))
    operation = Reverse()
    await run(receiver.url, operation)
    assert len(operation.turned_text or "") == ANSWER_LIMIT - frame


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (told(404, error={"code": "notFound", "message": "No such file."}), (400, 1, "No such file.")),
        (told(422, title="Invalid", detail="text is empty"), (400, 1, "text is empty")),
        (told(409, title="Conflict"), (400, 1, "Conflict")),
        (told(401, error="invalid_token"), (400, 1, "invalid_token")),
        (lambda: web.Response(status=400, text=" too long \n"), (400, 1, "too long")),
        (
            lambda: web.Response(status=400, body=b"\xff", content_type="text/plain"),
            (400, 1, "\N{REPLACEMENT CHARACTER}"),
        ),
        (
            lambda: web.Response(status=404, text="<h1>nginx</h1>", content_type="text/html"),
            (400, 1, "The URL handler answered 404."),
        ),
        (lambda: web.Response(status=410), (400, 1, "The URL handler answered 410.")),
        (told(422, detail=[{"loc": ["text"]}]), (400, 1, "The URL handler answered 422.")),
        (lambda: web.json_response([], status=400), (400, 1, "The URL handler answered 400.")),
        (told(400, resultInfo={"code": 400, "subcode": 8508, "message": "No."}), (400, 8508, "No.")),
        (told(422, resultInfo={"code": 422, "subcode": 2}, detail="empty"), (422, 2, "empty")),
        (told(400, resultInfo={"code": 200, "subcode": 5, "message": "?"}), (400, 5, "?")),
        (told(400, resultInfo={"code": "x"}, detail="still told"), (400, 1, "still told")),
        (told(400, detail="x" * 5000), (400, 1, "x" * MESSAGE_SHOWN)),
        (
            lambda: web.Response(status=413, text="y" * 2 * ANSWER_LIMIT, content_type="text/plain"),
            (400, 1, "y" * MESSAGE_SHOWN),
        ),
    ],
)
async def test_4xx_is_a_refusal_with_the_answers_message(
    receiver: Receiver, answer: Callable[[], web.Response], result: tuple[int, int, str]
) -> None:
    receiver.answer = answer
    with pytest.raises(Rejected) as refused:
        await run(receiver.url)
    got = refused.value.result
    assert (got.code, got.subcode, got.message) == result


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("header", "after"),
    [
        ("7", 7.0),
        ("0", 0.0),
        ("9" * 400, LONGEST_RETRY_AFTER),
        (None, None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("Wed, 21 Oct 99999 07:28:00 GMT", None),
        (formatdate(0, usegmt=True), 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_RETRY_AFTER),
    ],
)
async def test_429_and_503_ask_for_another_attempt(
    receiver: Receiver, status: int, header: str | None, after: float | None
) -> None:
    receiver.answer = lambda: web.Response(
        status=status, text="too busy", headers={} if header is None else {"Retry-After": header}
    )
    with pytest.raises(Retry, match="too busy") as retry:
        await run(receiver.url)
    assert retry.value.after == after


async def test_a_retry_after_may_be_a_date(receiver: Receiver) -> None:
    receiver.answer = lambda: web.Response(
        status=503, headers={"Retry-After": formatdate(time.time() + 100, usegmt=True)}
    )
    with pytest.raises(Retry, match="The URL handler answered 503") as retry:
        await run(receiver.url)
    assert retry.value.after is not None
    assert 90 < retry.value.after <= 100


async def test_nobody_listening_is_unreachable(unused_tcp_port: int) -> None:
    with pytest.raises(HandlerUnreachable, match="ClientConnectorError"):
        await run(f"http://127.0.0.1:{unused_tcp_port}/")


async def test_a_name_that_nobody_knows_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(HandlerUnreachable, match="ClientConnectorDNSError"):
        await run("http://handler.invalid/")


async def test_a_server_that_does_not_speak_tls_is_unreachable(receiver: Receiver) -> None:
    with pytest.raises(HandlerUnreachable, match="SSL"):
        await run(receiver.url.replace("http:", "https:"))


@asynccontextmanager
async def raw(receive: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[str]:
    """A server below HTTP; `receive` starts when a request's head has come."""

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        with suppress(ConnectionError):
            await receive(reader, writer)
        writer.close()

    async with await asyncio.start_server(accept, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"


@pytest.mark.parametrize("begun", [b"", HEAD, HEAD + b'{"turned', b"SSH-2.0-OpenSSH_9.6\r\n"])
async def test_an_answer_that_breaks_off_is_unreachable(begun: bytes) -> None:
    async def receive(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(begun)
        await writer.drain()

    async with raw(receive) as url:
        with pytest.raises(HandlerUnreachable, match="the connection broke"):
            await run(url)


class Silent:
    """A server that never finishes its answer; it knows when a request has come and when its connection has ended."""

    def __init__(self, begun: bytes = b"") -> None:
        self.begun, self.arrived, self.ended = begun, asyncio.Event(), asyncio.Event()

    async def receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(self.begun)
        self.arrived.set()
        try:
            while await reader.read(65536):
                pass
        finally:
            self.ended.set()


@pytest.mark.parametrize("begun", [b"", HEAD])
async def test_a_cancel_closes_the_connection(begun: bytes) -> None:
    silent = Silent(begun)
    async with raw(silent.receive) as url:
        attempt = asyncio.create_task(run(url, timeout="1h"))
        await silent.arrived.wait()
        assert not silent.ended.is_set()
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        await soon(silent.ended.wait())


@pytest.mark.parametrize("begun", [b"", HEAD])
async def test_a_server_that_is_too_slow_is_unreachable_and_left(begun: bytes) -> None:
    silent = Silent(begun)
    async with raw(silent.receive) as url:
        with pytest.raises(HandlerUnreachable, match="did not answer in time"):
            await run(url, timeout="100ms")
        await soon(silent.ended.wait())


async def test_an_answer_without_end_is_left_at_the_limit() -> None:
    left = asyncio.Event()

    async def receive(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        try:
            while True:
                writer.write(b"x" * 4096)
                await writer.drain()
        finally:
            left.set()

    async with raw(receive) as url:
        with pytest.raises(BadAnswer, match="more than"):
            await run(url)
        await soon(left.wait())


async def test_a_loop_has_one_session_which_ends_with_it(receiver: Receiver) -> None:
    opened = []

    async def attempts() -> None:
        await asyncio.gather(run(receiver.url), run(receiver.url))
        opened.append(await url_request._session())
        opened.append(await url_request._session())
        assert not opened[0].closed

    await asyncio.to_thread(asyncio.run, attempts())
    assert opened[0] is opened[1]
    assert opened[0].closed
    assert len(receiver.sent) == 2
    assert all(loop is asyncio.get_running_loop() for loop in url_request._SESSIONS)


async def test_cookies_are_not_kept(receiver: Receiver) -> None:
    receiver.answer = lambda: web.Response(headers={"Set-Cookie": "tenant=one; Path=/"})
    for _ in range(2):
        await run(receiver.url.replace("127.0.0.1", "localhost"))  # no jar keeps those of an address
    assert "cookie" not in receiver.sent[1].headers


@asynccontextmanager
async def program(*arguments: str | Path, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *arguments,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.fixture
async def documented(tmp_path: Path) -> AsyncIterator[str]:
    """The address of the receiver of docs/url-handlers.md, which runs with the secret NEW."""
    (tmp_path / "receiver.py").write_text(RECEIVER)
    async with program(sys.executable, tmp_path / "receiver.py", "0", CONTOSO_SECRET=NEW) as process:
        assert process.stdout is not None
        yield (await soon(process.stdout.readline())).decode().strip()


def declared(**members: Any) -> Operation:
    """An operation of the type that the page declares."""
    namespace: dict[str, Any] = {"__name__": "contoso.operations"}
    exec(DECLARATION, namespace)  # the page's own code
    operation = namespace["Reverse"].from_members(members, None)
    assert isinstance(operation, Operation)
    return operation


async def test_the_documented_receiver_verifies_and_answers(documented: str) -> None:
    for _ in range(2):  # the second time from what it keeps
        operation = declared(text="abc")
        assert await run(documented, operation, secret=[OLD, NEW]) is None
        assert operation.model_dump()["reversed"] == "cba"
    with pytest.raises(Rejected, match=r"There is nothing to reverse\."):
        await run(documented, declared(text=""), secret=NEW)


@pytest.mark.parametrize("secret", [OLD, ()])
async def test_the_documented_receiver_refuses_a_wrong_signature(documented: str, secret: str | tuple[()]) -> None:
    with pytest.raises(Rejected, match="The signature is missing, wrong or old"):
        await run(documented, declared(text="abc"), secret=secret)


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("openssl")), reason="needs curl and openssl")
async def test_the_request_by_hand_is_verified(documented: str) -> None:
    async with program("sh", "-c", BY_HAND, RECEIVER=documented, CONTOSO_SECRET=NEW) as shell:
        told, _ = await shell.communicate()
    assert json.loads(told) == {"reversed": "cba"}


async def test_api_and_worker_know_a_type_from_the_settings(
    receiver: Receiver, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through everything: created over HTTP, refused and tried again by the URL, its result read over HTTP."""
    later = web.Response(status=503, headers={"Retry-After": "0"})
    done = web.json_response({"resultInfo": {"code": 200, "subcode": 9}, "result": [1]})
    receiver.answer = iter([web.Response(status=500), later, done]).__next__
    monkeypatch.setenv("TRACKER_URL_HANDLERS", f"#contoso.any={receiver.url}")
    monkeypatch.setenv("TRACKER_URL_SECRETS", f"#contoso.any={NEW}")
    assert settings.test_clock

    async with open_api(Settings()) as api, program(sys.executable, "-m", "tracker.cli.main", "worker"):
        created = await api.created(**{"@odata.type": "#contoso.any", "text": "abc", "result": "a client's"})

        async def ended() -> Json | None:
            operation = (await api.get(f"{COLLECTION}/{created['id']}")).json
            return operation if operation["status"] in {"Completed", "Failed"} else None

        operation = await eventually(ended)
    assert operation["status"] == "Completed"
    assert operation["resultInfo"]["subcode"] == 9
    assert operation["result"] == [1]
    assert [json.loads(sent.body)["attempt"] for sent in receiver.sent] == [1, 2, 3]
    assert {sent.headers["webhook-id"] for sent in receiver.sent} == {receiver.sent[0].headers["idempotency-key"]}
    assert all(sent.headers["webhook-signature"] == signature(NEW, sent) for sent in receiver.sent)
    first = json.loads(receiver.sent[0].body)
    assert (first["id"], first["callId"], first["text"]) == (created["id"], "call-1", "abc")
    assert "result" not in first
