"""Errors of both of aiohttp's parsers: what is too long, and what is no HTTP."""

import asyncio
from typing import Any
from unittest.mock import Mock

import pytest
from aiohttp import http_parser
from aiohttp.http_exceptions import HttpProcessingError

from tracker.api.lengths import LONGEST_FIELD, LONGEST_LINK, LONGEST_TARGET
from tracker.api.parser_errors import parser_error

PARSERS = list(dict.fromkeys([http_parser.HttpRequestParser, http_parser.HttpRequestParserPy]))
"""The parser in C, where it is installed, and the parser in Python."""
HEAD = b" HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(params=PARSERS, ids=lambda parser: parser.__module__)
def feed(request: pytest.FixtureRequest) -> Any:
    """Feeds pieces to a parser as the server makes it; returns the status of the error, or None."""

    def feed(*pieces: bytes) -> int | None:
        loop = asyncio.new_event_loop()
        limits = {"max_line_size": LONGEST_TARGET, "max_field_size": LONGEST_FIELD, "max_headers": 128}
        parser = request.param(Mock(), loop, 2**16, **limits)
        loop.close()
        try:
            for piece in pieces:
                parser.feed_data(piece)
        except HttpProcessingError as error:
            return int(parser_error(error)[0])
        return None

    return feed


@pytest.mark.parametrize("target", [b"/", b"http://x/", b"/?a:b=", b"*"])
@pytest.mark.parametrize("size", [LONGEST_TARGET + 1, 20_000])
def test_a_target_that_is_too_long_is_414(feed: Any, target: bytes, size: int) -> None:
    line = b"GET " + target.ljust(size, b"y")
    assert feed(line + HEAD + b"\r\n") == 414
    assert feed(line[:100], line[100:9000], line[9000:] + HEAD + b"\r\n") == 414
    assert feed(line.ljust(size + 100, b"y")) == 414


@pytest.mark.parametrize("field", [b"X: ", b"X: /", b"Referer: http://x/", b"X:"])
def test_a_header_field_that_is_too_long_is_431(feed: Any, field: bytes) -> None:
    head = b"GET /" + HEAD
    assert feed(head + field.ljust(20_000, b"y") + b"\r\n\r\n") == 431
    assert feed(head, field, b"y" * 9000, b"y" * 9000, b"\r\n\r\n") == 431


def test_the_name_of_a_header_field_that_is_too_long_is_431(feed: Any) -> None:
    assert feed(b"GET /" + HEAD + b"X" * 20_000 + b": y\r\n\r\n") == 431


def test_too_many_header_fields_are_431(feed: Any) -> None:
    assert feed(b"GET /" + HEAD + b"X: y\r\n" * 200 + b"\r\n") == 431


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.1\r\nHost: x\r\nno field\r\n\r\n"]
)
def test_what_is_no_http_is_400(feed: Any, data: bytes) -> None:
    assert feed(data) == 400


def test_the_longest_link_and_the_longest_target_are_read(feed: Any) -> None:
    for method in (b"GET", b"DELETE"):
        assert feed(method + b" " + b"/".ljust(LONGEST_LINK, b"y") + HEAD + b"\r\n") is None
    assert feed(b"GET /" + HEAD + b"X: ".ljust(LONGEST_TARGET, b"y") + b"\r\n\r\n") is None
