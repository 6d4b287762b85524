"""`If-Match` and `If-None-Match`: conditions on an operation's revision that a request sets (RFC 9110, 13).

They are not aiohttp's `request.if_match` and `request.if_none_match`, which read the first of several lines only, take
an empty header for none, and leave out every tag after a malformed one.
"""

from dataclasses import dataclass

from tracker.domain.record import Record
from tracker.errors import PreconditionFailed


@dataclass(frozen=True, slots=True)
class Preconditions:
    """The values of both headers, lines of one header joined by commas; None for a header that was not sent.

    Both are compared weakly: an ETag here is a revision, which is a weak validator, and by RFC 9110's strong
    comparison for `If-Match` it would equal nothing.
    """

    if_match: str | None = None
    if_none_match: str | None = None

    def __bool__(self) -> bool:
        """Whether either header was sent."""
        return self.if_match is not None or self.if_none_match is not None

    def check(self, record: Record) -> None:
        """Raise PreconditionFailed unless the record meets both."""
        if self.if_match is not None and not etag_matches(self.if_match, record):
            raise PreconditionFailed("The operation has changed: If-Match does not name its ETag.", target="If-Match")
        if self.if_none_match is not None and etag_matches(self.if_none_match, record):
            raise PreconditionFailed("If-None-Match names the operation's current ETag.", target="If-None-Match")


ANY = Preconditions()
"""The preconditions of a request that sends neither header."""


def etag_matches(header: str, record: Record) -> bool:
    """Whether a header's list of ETags names the record's revision, compared weakly; `*` names every revision."""
    tags = (tag.strip().removeprefix("W/") for tag in header.split(","))
    return any(tag in {"*", record.etag.removeprefix("W/")} for tag in tags)
