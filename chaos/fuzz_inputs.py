"""The parsers that a fuzz run tries, examples of their inputs, and mutations of examples."""

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from tracker import durations
from tracker.api import forwarded, headers
from tracker.api.batch.batch_body import read_batch
from tracker.api.client_address import parse_address
from tracker.api.odata import query_options
from tracker.api.odata.filter import parse_filter
from tracker.api.odata.orderby import parse_order
from tracker.api.odata.search import parse_search
from tracker.api.odata.select import parse_select
from tracker.api.request_bodies import parse_object

TOKEN: Final = "token-of-the-fuzz-run"  # noqa: S105 - of the run's own API
_CALL: Final = "/communications/calls/fuzz/operations"


class Target(NamedTuple):
    """A parser, with examples of what it reads."""

    parse: Callable[[bytes], object]
    examples: Sequence[bytes]


def _text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
    return lambda data: parse(data.decode("utf-8", "surrogateescape"))


def _listing(data: bytes) -> object:
    text = data.decode("utf-8", "replace")
    pairs = [(name, value) for name, _, value in (part.partition("=") for part in text.split("&"))]
    return query_options.parse_listing(pairs, call_id="c", preferences={})


TARGETS: Final[Mapping[str, Target]] = {
    "JSON": Target(
        parse_object,
        [
            b'{"a": [1, 2.5, -3e7, "x\\u00e9", null, true], "b": {"c": {}}}',
            b'{"a": "\\ud83d\\ude00"}',
            b"\xef\xbb\xbf{}",
        ],
    ),
    "batch": Target(
        lambda data: read_batch(parse_object(data)),
        [
            (
                b'{"requests": [{"id": "1", "method": "GET", "url": "/x", "headers": {"a": "b"}},'
                b' {"id": "2", "method": "POST", "url": "x", "body": {"a": 1}, "dependsOn": ["1"]}]}'
            )
        ],
    ),
    "filter": Target(
        _text(parse_filter),
        [
            b"status eq 'Running' and (clientContext ne 'it''s' or not startswith(id, 'a'))",
            b"createdDateTime ge 2026-01-31T12:00:00.5Z and resultInfo/code in (200, 404)",
            b"isof('microsoft.graph.playPromptOperation') or contains(clientContext,'x')",
        ],
    ),
    "orderby": Target(_text(parse_order), [b"createdDateTime desc, id", b"status asc"]),
    "search": Target(_text(parse_search), [b'one AND (two OR NOT "three four")', b"a b c"]),
    "select": Target(_text(parse_select), [b"id,status,resultInfo/code", b"*"]),
    "listing": Target(
        _listing,
        [b"$filter=status eq 'Failed'&$top=5&$orderby=id desc&$count=true", b"$skiptoken=abc&$skip=3", b"$search=a"],
    ),
    "Accept": Target(
        _text(lambda text: headers.accepts(text, "application/json")), [b'a/b;q=0.5;x="y\\"z", application/json;q=1']
    ),
    "Content-Type": Target(_text(headers.is_json), [b'application/json; charset="utf-8"; odata.metadata=full']),
    "Prefer": Target(_text(lambda text: headers.preferences([text])), [b'return=minimal, wait=5; a="b,c"']),
    "Forwarded": Target(
        _text(lambda text: headers.forwarded([text])), [b'for="[2001:db8::1]:80";proto=https;host=x, for=192.0.2.1']
    ),
    "addresses": Target(_text(parse_address), [b"[2001:db8::1%eth0]:80", b"192.0.2.1:443", b"::ffff:10.0.0.1"]),
    "hosts": Target(_text(forwarded.host_name), [b"example.org:8080", b"[::1]:80", b"127.0.0.1"]),
    "durations": Target(_text(durations.seconds), [b"1h30m", b"PT5M", b"90s", b"1.5d"]),
    "rates": Target(_text(durations.rate), [b"10/s", b"5/2m"]),
}
EXPECTED: Final[Mapping[str, tuple[type[Exception], ...]]] = {
    "durations": (ValueError,),
    "rates": (ValueError,),
}
"""Errors that a caller of the parser in the tracker expects, beside those of the tracker."""

_HEAD: Final = f"HTTP/1.1\nHost: localhost\nAuthorization: Bearer {TOKEN}\n"
_JSON: Final = f"{_HEAD}Content-Type: application/json\n"
_BATCH: Final = '{"requests": [{"id": "1", "method": "GET", "url": "/events"}]}'
REQUESTS: Final[Sequence[bytes]] = tuple(
    text.replace("\n", "\r\n").encode()
    for text in (
        f'POST {_CALL} {_JSON}Content-Length: 10\n\n{{"a": "b"}}',
        f'POST {_CALL} {_JSON}Transfer-Encoding: chunked\n\na;x=y\n{{"a": "b"}}\n0\nT: x\n\n',
        f"GET {_CALL}?$filter=status%20eq%20'Failed'&$top=2 {_HEAD}Accept: application/json\n\n",
        f'GET {_CALL}/one {_HEAD}If-None-Match: W/"1"\nPrefer: wait=0\n\n',
        f"GET {_CALL}/$count {_HEAD}\nGET /healthz HTTP/1.1\nHost: localhost\n\n",
        f"DELETE {_CALL}/one {_HEAD}If-Match: *\n\n",
        f"POST /$batch {_JSON}Content-Length: 62\n\n{_BATCH}",
        f"POST /google/operations/one:cancel {_HEAD}Content-Length: 0\n\n",
        f"GET /ogc/jobs?limit=2 {_HEAD}\n",
        f"OPTIONS * {_HEAD}\n",
        "GET / HTTP/1.0\n\n",
    )
)
_PIECES: Final = (
    *(b"\x00", b"\r\n", b"\n", b"\xff", b"\xc3\x28", b"\xed\xa0\x80", b"%00", b"%2F", b"..", b"//", b"'", b'"', b"\\"),
    *(
        b"(",
        b")",
        b"[",
        b"{",
        b"}",
        b",",
        b";",
        b"=",
        b":",
        b"9" * 400,
        b"-1",
        b"1e999",
        b"NaN",
        b" " * 50,
        b"\x1b[31m",
    ),
    *(b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"Host: x\r\n", b"Expect: 100-continue\r\n"),
    *(b"Upgrade: websocket\r\n", b"Connection: upgrade\r\n", b"HTTP/2.0", b"not ", b"and ", b"or ", b"(" * 100),
)


def mutated(examples: Sequence[bytes], chances: random.Random) -> bytes:
    """A mutation of an example: some bytes replaced, inserted, removed, repeated or mixed with another example."""
    data = bytearray(chances.choice(examples))
    for _ in range(chances.randrange(1, 6)):
        at = chances.randrange(len(data) + 1)
        match chances.randrange(7):
            case 0:
                data[at:at] = chances.choice(_PIECES)
            case 1:
                data[at : at + chances.randrange(1, 9)] = chances.randbytes(chances.randrange(4))
            case 2:
                del data[at : at + chances.randrange(1, 20)]
            case 3:
                part = bytes(data[at : at + chances.randrange(1, 20)])
                data[at:at] = part * chances.choice((2, 10, 200))
            case 4 if data:
                data[at % len(data)] ^= 1 << chances.randrange(8)
            case 5:
                other = chances.choice(examples)
                data[at:] = other[chances.randrange(len(other)) :]
            case _:
                del data[at:]
    return bytes(data)
