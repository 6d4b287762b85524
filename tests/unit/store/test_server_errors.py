"""Error replies of Redis: outages, and errors that may be the fault of a call."""

import pytest
from redis._parsers.base import BaseParser
from redis.exceptions import InvalidResponse, ResponseError
from structlog.testing import capture_logs

from tracker.errors import Unavailable
from tracker.store import server_errors
from tracker.store.server_errors import StoreFull, as_unavailable, code_of


def reply_of(text: str) -> Exception:
    """The error that redis-py makes of a reply."""
    error: Exception = BaseParser.parse_error(text)  # type: ignore[no-untyped-call]
    return error


OUTAGES = {
    "LOADING Redis is loading the dataset in memory": "",
    "MOVED 3999 127.0.0.1:6381": "MOVED",
    "ASK 3999 127.0.0.1:6381": "ASK",
    "TRYAGAIN Multiple keys request during rehashing of slot": "TRYAGAIN",
    "CLUSTERDOWN Hash slot not served": "CLUSTERDOWN",
    "CROSSSLOT Keys in request don't hash to the same slot": "CROSSSLOT",
    "MASTERDOWN Link with MASTER is down": "MASTERDOWN",
    "READONLY You can't write against a read only replica.": "READONLY",
    "MISCONF Errors writing to the AOF file: No space left on device": "MISCONF",
    "NOREPLICAS Not enough good replicas to write.": "NOREPLICAS",
    "BUSY Redis is busy running a script.": "BUSY",
    "UNKILLABLE Sorry the script already executed write commands": "UNKILLABLE",
    "NEWCODE whatever a later version answers": "NEWCODE",
    "NOPERM User app has no permissions to run the 'get' command": "refuses",
    "NOAUTH Authentication required.": "",
    "OOM command not allowed when used memory > 'maxmemory'.": "maxmemory",
}


@pytest.mark.parametrize(("reply", "word"), OUTAGES.items())
def test_an_error_about_the_server_is_an_outage_that_is_named(reply: str, word: str) -> None:
    found = as_unavailable(reply_of(reply))
    assert isinstance(found, Unavailable)
    assert word in found.message
    assert isinstance(found, StoreFull) is reply.startswith("OOM")


@pytest.mark.parametrize(
    "reply",
    [
        "ERR Error running script: user_script:12: attempt to index a nil value",
        "ERR value is not an integer or out of range",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "NOSCRIPT No matching script.",
        "user_script:1: oh",
    ],
)
def test_an_error_that_may_be_the_fault_of_the_call_is_none(reply: str) -> None:
    error = reply_of(reply)
    assert isinstance(error, ResponseError)
    assert as_unavailable(error) is None
    assert code_of(error) in {"ERR", "WRONGTYPE", "NOSCRIPT"}


def test_a_refusal_is_logged_once_a_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_errors, "_reported", {})
    with capture_logs() as logs:
        for _ in range(1000):
            as_unavailable(reply_of("NOPERM User app has no permissions to run the 'get' command"))
        as_unavailable(reply_of("NOPERM User app has no permissions to run the 'set' command"))
    assert [line["event"] for line in logs] == ["store_refuses"] * 2


def test_an_answer_that_is_not_of_redis_is_an_outage() -> None:
    assert isinstance(as_unavailable(InvalidResponse("Protocol error")), Unavailable)
