"""Random bodies and headers are never answered with a server error."""

import json
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from tests.support.api_client import COLLECTION, Api
from tests.support.scheduling import chance
from tracker.domain.operation import Json

REQUESTS = 1500
TYPES = ("#microsoft.graph.commsOperation", "microsoft.graph.playPromptOperation", None, 7, "x")
NAMES = (
    *("id", "status", "clientContext", "resultInfo", "@odata.type", "@odata.etag", "b@x", "delay", "notBefore"),
    *("prompts", "completionReason", "attempt", "percentComplete", "createdDateTime", "a", "b", "", "\x00"),
)
INNER = ("code", "subcode", "message", "@odata.type", "mediaInfo", "uri", "a")
VALUES = (
    *(None, True, False, 0, 1, -1, 5, 0.5, 1e308, 2**31, 2**64, 10**400, "", "x", "mine", "String", "é" * 300, "\x00"),
    *("\ud800", "2026-01-31T12:00:00Z", "0001-01-01T00:00:00+23:59", "9" * 40, "PT5S", "PT99999999999S"),
)
HEADERS: Mapping[str, Sequence[str]] = {
    "Prefer": (
        *("return=minimal", "respond-async", "respond-async, wait=0", "wait=0", "handling=strict, return=minimal"),
        *("=", ";,", 'return="minimal', "handling=strict"),
    ),
    "If-Match": ("*", 'W/"1"', '"2"', "", ",,", "x"),
    "If-None-Match": ("*", 'W/"1"', '"2"', ""),
    "Idempotency-Key": ("a", "b", "", "é", "x y"),
    "Operation-Id": ("a", ""),
    "Repeatability-Request-ID": ("a", "b"),
    "Repeatability-First-Sent": (
        *("Sun, 06 Nov 1994 08:49:37 GMT", "Mon, 99 Jan 2026 08:49:37 GMT", f"Mon, 01 Jan {'9' * 30} 08:49:37 GMT"),
        *("x", "99, 99", ", , , :"),
    ),
    "OData-Version": ("4.0", "4.01", "x"),
    "OData-MaxVersion": ("4.0", "4.01", "99.99", "x"),
    "Accept": ("*/*", "application/json", "text/html", ";", "application/json;q=x"),
    "Content-Encoding": ("gzip", "x"),
    "client-request-id": ("a", "é"),
}
METHODS = ("POST", "POST", "PATCH", "PATCH", "GET", "DELETE", "HEAD", "OPTIONS", "cancel", "monitor")


def value(chances: Random, depth: int = 0) -> Any:
    match chances.randrange(8 if depth < 3 else 6):
        case 6:
            return [value(chances, depth + 1) for _ in range(chances.randrange(3))]
        case 7:
            return {chances.choice(INNER): value(chances, depth + 1) for _ in range(chances.randrange(4))}
        case _:
            return chances.choice(VALUES)


def body(chances: Random) -> Json:
    members = {chances.choice(NAMES): value(chances) for _ in range(chances.randrange(6))}
    return {**members, "@odata.type": chances.choice(TYPES)} if chances.random() < 0.5 else members


def headers(chances: Random) -> dict[str, str]:
    sent = {name: chances.choice(values) for name, values in HEADERS.items() if chances.random() < 0.1}
    return {**sent, "Content-Type": chances.choice(("application/json",) * 9 + ("text/plain",))}


async def test_no_random_request_is_answered_with_a_server_error(api: Api) -> None:
    chances = chance()
    known = ["missing"]
    for _ in range(REQUESTS):
        method, name = chances.choice(METHODS), chances.choice(known[-8:])
        path = COLLECTION if method == "POST" else f"{COLLECTION}/{name}"
        if method == "cancel":
            method, path = "POST", f"{path}/cancel"
        elif method == "monitor":
            method, path = chances.choice(("GET", "DELETE")), f"/operations/{name}"
        data = json.dumps(body(chances)).encode() if method in {"POST", "PATCH"} else None
        sent = headers(chances)
        answer = await api.request(method, path, headers=sent, data=data)
        assert answer.status < 500, (method, path, sent, data, answer.body)
        if answer.status >= 400 and method != "HEAD":
            assert answer.error["code"]
        elif path == COLLECTION:
            known.append(answer.headers["Location"].rpartition("/")[2])
