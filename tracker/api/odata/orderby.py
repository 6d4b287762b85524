"""`$orderby`: members, each with `asc` or `desc`."""

from functools import lru_cache
from typing import Final

from tracker.api.odata.tokens import Form, Token, malformed, tokens
from tracker.errors import NotSupported
from tracker.listing.conditions import MEMBERS
from tracker.listing.planner import SortKey, complete

ORDERBY: Final = "$orderby"


@lru_cache(128)
def parse_order(text: str) -> tuple[SortKey, ...]:
    """Read an `$orderby`, made total. Raises Invalid with the position, or NotSupported for another member."""
    words = tokens(text, ORDERBY)
    keys: list[SortKey] = []
    unserved: NotSupported | None = None
    while True:
        member = next(words)
        if member.form is not Form.WORD or member.is_word("asc", "desc"):
            raise malformed(ORDERBY, "expected a member", member.position)
        token = next(words)
        if token.is_punctuation("("):
            raise _unserved(f"the function {member.text!r}", member)
        descending = token.is_word("desc")
        if token.is_word("asc", "desc"):
            token = next(words)
        name = member.text.removeprefix("$it/")
        if name in MEMBERS:
            keys.append(SortKey(name, descending))
        else:
            unserved = unserved or _unserved(f"the member {member.text!r}", member)
        if token.form is Form.END:
            break
        if not token.is_punctuation(","):
            raise malformed(ORDERBY, "expected asc, desc, a comma or the end", token.position)
    if unserved is not None:
        raise unserved
    return complete(keys)


def _unserved(form: str, token: Token) -> NotSupported:
    return NotSupported(f"{ORDERBY}: {form} (at position {token.position}) is not supported.", target=ORDERBY)
