"""Parser of `$orderby`: members, each with `asc` or `desc`."""

from typing import Final

from tracker.api.odata.tokens import Form, Token, malformed, tokens
from tracker.errors import NotSupported
from tracker.listing.conditions import MEMBERS
from tracker.listing.planner import SortKey, complete

ORDERBY: Final = "$orderby"


def parse_order(text: str) -> tuple[SortKey, ...]:
    """The sort keys of an `$orderby`, with keys added so that no two operations are equal.

    Raises Invalid with the position of the mistake. Raises NotSupported for a function, and for a member that cannot be
    sorted by.
    """
    words = tokens(text, ORDERBY)
    keys: list[SortKey] = []
    unsupported: NotSupported | None = None
    while True:
        member = next(words)
        if member.form is not Form.WORD or member.is_word("asc", "desc"):
            raise malformed(ORDERBY, "expected a member", member.position)
        token = next(words)
        if token.is_punctuation("("):
            raise _not_supported(f"the function {member.text!r}", member)
        descending = token.is_word("desc")
        if token.is_word("asc", "desc"):
            token = next(words)
        name = member.text.removeprefix("$it/")
        if name in MEMBERS:
            keys.append(SortKey(name, descending))
        else:
            unsupported = unsupported or _not_supported(f"the member {member.text!r}", member)
        if token.form is Form.END:
            break
        if not token.is_punctuation(","):
            raise malformed(ORDERBY, "expected asc, desc, a comma or the end", token.position)
    if unsupported is not None:
        raise unsupported
    return complete(keys)


def _not_supported(form: str, token: Token) -> NotSupported:
    return NotSupported(f"{ORDERBY}: {form} (at position {token.position}) is not supported.", target=ORDERBY)
