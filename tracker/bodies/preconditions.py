"""`If-Match` and `If-None-Match`: what must hold of an operation before a request does anything (RFC 9110, 13)."""

from dataclasses import dataclass

from tracker.domain.record import Record
from tracker.errors import PreconditionFailed


@dataclass(frozen=True, slots=True)
class Preconditions:
    """The headers' values, their lines joined; None for one that was not sent.

    Both are compared weakly: an ETag here is a revision, and the strong comparison of RFC 9110 would never hold.
    """

    if_match: str | None = None
    if_none_match: str | None = None

    def __bool__(self) -> bool:
        """Whether there are any."""
        return self.if_match is not None or self.if_none_match is not None

    def check(self, record: Record) -> None:
        """Raise PreconditionFailed unless they hold."""
        if self.if_match is not None and not etag_matches(self.if_match, record):
            raise PreconditionFailed("The operation has changed since; its ETag is another now.", target="If-Match")
        if self.if_none_match is not None and etag_matches(self.if_none_match, record):
            raise PreconditionFailed("The operation is as If-None-Match says.", target="If-None-Match")


ANY = Preconditions()
"""For a request that is right whatever has happened meanwhile."""


def etag_matches(header: str, record: Record) -> bool:
    """Whether an If-Match or If-None-Match list names the record's revision, compared weakly."""
    tags = (tag.strip().removeprefix("W/") for tag in header.split(","))
    return any(tag in {"*", record.etag.removeprefix("W/")} for tag in tags)
