"""HTTP requests to a tracker, and the part of an answer that must be the same in two versions.

This module needs the standard library only, so that `make_stored` needs no installed package.
"""

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, NamedTuple

from tests.support.waiting import LONGEST_WAIT

TOKENS = {"dev": "dev-token", "other": "other-token"}
"""The token of each tenant."""
PUBLIC_URL = "https://tracker.example"
"""The beginning of absolute links in answers (TRACKER_PUBLIC_URL)."""

NEXT = "@odata.nextLink"
Json = dict[str, Any]


class Question(NamedTuple):
    """A request that changes nothing."""

    path: str
    tenant: str = "dev"
    method: str = "GET"
    headers: Mapping[str, str] = {}
    body: Json | None = None


class Answer(NamedTuple):
    """The stored part of an answer. `body` is decoded JSON, or text where the API answers with text."""

    status: int
    etag: str | None
    body: Any

    @property
    def essence(self) -> Any:
        """The part that two versions must have in common.

        The message of an error is for people, and may change. The link to the next page of a list holds the time of
        the first page.
        """
        if self.status >= 400:
            return self.status, _read_by_programs(self.body)
        if isinstance(self.body, dict) and NEXT in self.body:
            return self._replace(body={**self.body, NEXT: self.body[NEXT].partition("skiptoken")[0]})
        return self


def ask(url: str, question: Question) -> Answer:
    """Send a request. Raises OSError while the API cannot be reached."""
    data = None if question.body is None else json.dumps(question.body).encode()
    request = urllib.request.Request(f"{url}{question.path}", data, dict(question.headers), method=question.method)
    request.add_header("Authorization", f"Bearer {TOKENS[question.tenant]}")
    if data is not None:
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=LONGEST_WAIT) as answer:
            return Answer(answer.status, answer.headers["ETag"], _body(answer.read()))
    except urllib.error.HTTPError as error:
        with error:
            body = _body(error.read())
            if isinstance(body, dict) and "error" in body:
                body["error"].pop("innerError", None)  # holds the time and the id of the request
            return Answer(error.code, error.headers["ETag"], body)


def _body(data: bytes) -> Any:
    try:
        return json.loads(data) if data else None
    except ValueError:
        return data.decode()


def _read_by_programs(body: Any) -> Any:
    """The members of an error that programs read, in the forms of Graph, of Google and of OGC."""
    if not isinstance(body, dict):
        return None
    error = body.get("error", body)
    return {name: error[name] for name in ("code", "target", "status", "type") if name in error}
