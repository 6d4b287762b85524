"""Answers that show an operation: its body, and the headers that tell its state and where it is."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

from tracker.api.links import Links
from tracker.api.odata.select import ALL, Selection
from tracker.api.prefer import VARY
from tracker.api.serializers import resource
from tracker.domain.record import Record
from tracker.json_codec import encode
from tracker.retry_after import RetryAfterEstimator


class Answer(NamedTuple):
    """The parts of an answer; its body is JSON."""

    status: int
    headers: dict[str, str]
    body: bytes


class Representation:
    """Shows operations of one call. What several answers have in common is made once."""

    def __init__(self, links: Links, estimator: RetryAfterEstimator, call_id: str, selection: Selection = ALL) -> None:
        self._estimator, self._selection = estimator, selection
        self._context = f"{selection.context(links.context(call_id))}/$entity"
        self._location, self._monitor = links.operation(call_id, ""), links.monitor("")

    def location_headers(self, record: Record) -> dict[str, str]:
        """The addresses of an accepted operation and of its status monitor."""
        return {"Location": self._location + record.id, "Operation-Location": self._monitor + record.id}

    def accepted(self, record: Record, *, new: bool) -> Answer:
        """The answer to a create: 201, or 200 with the operation that was stored before."""
        return self.answer(record, self.location_headers(record), status=HTTPStatus.CREATED if new else HTTPStatus.OK)

    def answer(self, record: Record, headers: Mapping[str, str], *, status: int) -> Answer:
        """The operation as it is, with these headers and those of its state."""
        body = self._selection.of(resource(record, context=self._context))
        return Answer(status, {**headers, **state_headers(self._estimator, record)}, encode(body))


def state_headers(estimator: RetryAfterEstimator, record: Record) -> dict[str, str]:
    """Headers that every answer about an operation has."""
    return {**VARY, "ETag": record.etag, **retry_after(estimator, record)}


def retry_after(estimator: RetryAfterEstimator, record: Record) -> dict[str, str]:
    """When to ask again, for an operation that has not ended; an integer, because Graph's clients ignore fractions."""
    return {} if record.status.final else {"Retry-After": str(estimator.retry_after(record))}
