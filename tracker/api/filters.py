"""`$filter`: the whole grammar is recognised, equality of two members is served.

Malformed text is Invalid with its position; a well-formed expression that is not served is NotSupported
(OData 4.01, part 1, 9.3.1), so that a client learns which of the two it has to mend.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from tracker.errors import Invalid, NotSupported
from tracker.model import OperationStatus

NESTING_LIMIT: Final = 32
ENUM_TYPE: Final = "microsoft.graph.operationstatus"
STATUSES: Final = {
    spelling: status
    for status in OperationStatus
    for spelling in (status.value, status.value[0].lower() + status.value[1:])
}
"""Both casings in which Graph writes a status."""

_COMPARISONS: Final = frozenset({"eq", "ne", "gt", "ge", "lt", "le", "has", "in"})
_ARITHMETIC: Final = frozenset({"add", "sub", "mul", "div", "divby", "mod"})
_RESERVED: Final = _COMPARISONS | _ARITHMETIC | {"and", "or", "not"}
_CONSTANTS: Final = frozenset({"true", "false", "null", "nan", "inf"})


class Kind(Enum):
    """What a token is."""

    STRING = "string"
    """`'…'`, with `''` for a quote."""
    TYPED = "typed literal"
    """`namespace.type'…'`."""
    NUMBER = "number"
    """Also dates, times and GUIDs: whatever starts with a digit or a sign."""
    WORD = "word"
    """A member path, an operator, a function's name or a constant."""
    PUNCTUATION = "punctuation"
    """A parenthesis or a comma."""
    END = "end"
    """The end of the text."""


@dataclass(frozen=True, slots=True)
class Token:
    """One token; `position` counts characters from 1."""

    kind: Kind
    text: str
    position: int
    type: str = ""


@dataclass(frozen=True, slots=True)
class Criteria:
    """What an operation must equal; None where it does not matter."""

    status: OperationStatus | None = None
    client_context: str | None = None


def parse_filter(text: str) -> Criteria:
    """Read a `$filter`. Raises Invalid with the position, or NotSupported naming the first form not served."""
    return _Parser(text).parse()


_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t]+)
    | (?P<type>[A-Za-z_][\w.]*)?'(?P<quoted>(?:[^']|'')*+)(?P<end>')?
    | (?P<number>[+-]?[0-9][\w.:+-]*)
    | (?P<word>[$@A-Za-z_][\w.@$/-]*)
    | (?P<punctuation>[(),])""",
    re.VERBOSE,
)


def tokens(text: str) -> Iterator[Token]:
    """Cut a filter into tokens, closed by an END. Raises Invalid for a letter that starts none."""
    place = 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise _malformed(f"unexpected {text[place]!r}", place + 1)
        if match["space"] is None:
            yield _token(match)
        place = match.end()
    yield Token(Kind.END, "", place + 1)


def _token(match: re.Match[str]) -> Token:
    position = match.start() + 1
    if match["quoted"] is not None:
        if match["end"] is None:
            raise _malformed("a string without its closing quote", position)
        value = match["quoted"].replace("''", "'")
        return Token(Kind.TYPED if match["type"] else Kind.STRING, value, position, match["type"] or "")
    kind = next(kind for kind in (Kind.NUMBER, Kind.WORD, Kind.PUNCTUATION) if match[kind.value] is not None)
    return Token(kind, match[0], position)


class _Parser:
    """Recursive descent, one method per level of precedence.

    Equalities are collected on the way. The first form that is not served is only noted: what follows may
    still turn out to be malformed, which is the more useful answer.
    """

    def __init__(self, text: str) -> None:
        self._tokens = tokens(text)
        self._token = next(self._tokens)
        self._equalities: dict[str, Token] = {}
        self._unsupported: str | None = None
        self._nesting = 0

    def parse(self) -> Criteria:
        self._disjunction()
        if self._token.kind is not Kind.END:
            raise _malformed("expected an operator or the end", self._token.position)
        status = self._equalities.get("status")
        context = self._equalities.get("clientContext")
        criteria = Criteria(
            status=None if status is None else self._status(status),
            client_context=None if context is None else self._context(context),
        )
        if self._unsupported is not None:
            raise NotSupported(f"$filter: {self._unsupported} is not supported.", target="$filter")
        return criteria

    def _disjunction(self) -> None:
        self._conjunction()
        while self._takes("or"):
            self._note("`or`")
            self._conjunction()

    def _conjunction(self) -> None:
        self._negation()
        while self._takes("and"):
            self._negation()

    def _negation(self) -> None:
        while self._takes("not"):
            self._note("`not`")
        self._comparison()

    def _comparison(self) -> None:
        left = self._operand()
        operator = self._operator(_COMPARISONS)
        if operator is None:
            self._note("a condition without a comparison")
        elif operator == "in":
            self._note("`in`")
            self._list()
        else:
            self._compare(left, operator, self._operand())

    def _compare(self, left: Token | None, operator: str, right: Token | None) -> None:
        if operator != "eq":
            self._note(f"`{operator}`")
        elif left is None or right is None or left.kind is not Kind.WORD or _is_path(right):
            self._note("a comparison other than of a member with a literal")
        elif left.text not in {"status", "clientContext"}:
            self._note(f"the member {left.text!r}")
        elif self._equalities.setdefault(left.text, right).text != right.text:
            self._note(f"more than one value of {left.text}")

    def _operand(self) -> Token | None:
        """Read an operand; only one that is a single token is returned."""
        operand = self._term()
        while self._operator(_ARITHMETIC) is not None:
            self._note("arithmetic")
            self._term()
            operand = None
        return operand

    def _term(self) -> Token | None:
        token = self._token
        if token.text == "(" and token.kind is Kind.PUNCTUATION:
            self._group()
            return None
        if token.kind in {Kind.END, Kind.PUNCTUATION} or _is_reserved(token):
            raise _malformed("expected a member or a value", token.position)
        self._advance()
        if token.kind is Kind.WORD and self._is("("):
            self._note(f"the function {token.text!r}")
            self._list()
            return None
        return token

    def _group(self) -> None:
        self._note("a parenthesis")
        self._open()
        self._disjunction()
        self._close()

    def _list(self) -> None:
        self._open()
        while not self._is(")"):
            self._disjunction()
            if not self._is(")"):
                self._expect(",")
        self._close()

    def _open(self) -> None:
        self._nesting += 1
        if self._nesting > NESTING_LIMIT:
            raise _malformed(f"nested deeper than {NESTING_LIMIT} levels", self._token.position)
        self._expect("(")

    def _close(self) -> None:
        self._expect(")")
        self._nesting -= 1

    def _operator(self, words: frozenset[str]) -> str | None:
        word = self._token.text.lower()
        if self._token.kind is not Kind.WORD or word not in words:
            return None
        self._advance()
        return word

    def _takes(self, word: str) -> bool:
        return self._operator(frozenset({word})) is not None

    def _is(self, punctuation: str) -> bool:
        return self._token.kind is Kind.PUNCTUATION and self._token.text == punctuation

    def _expect(self, punctuation: str) -> None:
        if not self._is(punctuation):
            raise _malformed(f"expected {punctuation!r}", self._token.position)
        self._advance()

    def _advance(self) -> None:
        self._token = next(self._tokens)

    def _note(self, form: str) -> None:
        if self._unsupported is None:
            self._unsupported = f"{form} (before position {self._token.position})"

    def _status(self, literal: Token) -> OperationStatus | None:
        if literal.kind not in {Kind.STRING, Kind.TYPED} or literal.type.lower() not in {"", ENUM_TYPE}:
            raise _malformed("status is compared with an operationStatus", literal.position)
        if literal.text not in STATUSES:
            raise _malformed(f"{literal.text!r} is not a member of operationStatus", literal.position)
        return STATUSES[literal.text]

    def _context(self, literal: Token) -> str | None:
        if literal.text.lower() == "null" and literal.kind is Kind.WORD:
            self._note("a comparison of clientContext with null")
            return None
        if literal.kind is not Kind.STRING:
            raise _malformed("clientContext is compared with a string", literal.position)
        return literal.text


def _is_reserved(token: Token) -> bool:
    return token.kind is Kind.WORD and token.text.lower() in _RESERVED


def _is_path(token: Token) -> bool:
    return token.kind is Kind.WORD and token.text.lower() not in _CONSTANTS


def _malformed(what: str, position: int) -> Invalid:
    return Invalid(f"$filter: {what} at position {position}.", target="$filter")
