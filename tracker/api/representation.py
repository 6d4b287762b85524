"""Responses that show an operation: the body, and the headers with the operation's URLs and state."""

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


class ResponseParts(NamedTuple):
    """The parts of a response. The body is JSON."""

    status: int
    headers: dict[str, str]
    body: bytes


class Representation:
    """Builds responses that show operations of one call."""

    def __init__(self, links: Links, estimator: RetryAfterEstimator, call_id: str, selection: Selection = ALL) -> None:
        self._estimator, self._selection = estimator, selection
        self._context = f"{selection.context(links.context(call_id))}/$entity"
        self._location, self._monitor = links.operation(call_id, ""), links.monitor("")

    def location_headers(self, record: Record) -> dict[str, str]:
        """The URLs of an accepted operation and of its status monitor."""
        return {"Location": self._location + record.id, "Operation-Location": self._monitor + record.id}

    def accepted(self, record: Record, *, new: bool) -> ResponseParts:
        """The response to a create: 201, or 200 with the operation that was stored before."""
        status = HTTPStatus.CREATED if new else HTTPStatus.OK
        return self.response_parts(record, self.location_headers(record), status=status)

    def response_parts(self, record: Record, headers: Mapping[str, str], *, status: int) -> ResponseParts:
        """A response with the operation, these headers, and the headers of its state."""
        body = self._selection.of(resource(record, context=self._context))
        return ResponseParts(status, with_state(headers, record, self._estimator), encode(body))


def with_state(headers: Mapping[str, str], record: Record, estimator: RetryAfterEstimator) -> dict[str, str]:
    """These headers, and those of every response about an operation."""
    return {**headers, **VARY, "ETag": record.etag, **retry_after(estimator, record)}


def retry_after(estimator: RetryAfterEstimator, record: Record) -> dict[str, str]:
    """`Retry-After`, if the operation has not ended. It is an integer, because Graph's clients ignore fractions."""
    return {} if record.status.final else {"Retry-After": str(estimator.retry_after(record))}
