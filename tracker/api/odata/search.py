"""Parser of `$search`: words and "phrases" with AND, OR, NOT and parentheses (OData 4.01, part 2, 5.1.8).

Words without an operator between them are joined by AND. AND, OR and NOT are operators in capitals only. Malformed text
raises Invalid with the position of the mistake.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from tracker.api.odata.tokens import malformed
from tracker.errors import Invalid
from tracker.listing.conditions import And, Condition, Found, Not, Or

SEARCH: Final = "$search"
NESTING_LIMIT: Final = 32
"""How deep parentheses and NOTs are nested at most. The parser calls itself for each level."""
TERMS_LIMIT: Final = 200
"""How many words and phrases a search has at most. Each is looked for in up to 10,000 operations."""

_TOKEN: Final = re.compile(
    r"""(?P<space>\s+)
    | "(?P<phrase>(?:[^"\\]|\\.)*+)(?P<end>")?
    | (?P<bracket>[()])
    | (?P<word>[^\s"()]+)""",
    re.VERBOSE | re.DOTALL,
)


class _Part(NamedTuple):
    """A word or phrase (`text`), or an operator: AND, OR, NOT or a parenthesis.

    At the end of the search both are "".
    """

    position: int
    operator: str = ""
    text: str = ""


def parse_search(text: str) -> Condition:
    """Parse the value of `$search`. Raises Invalid with the position of the mistake."""
    return _Parser(text).parse()


class _Parser:
    """Recursive descent. OR has the lowest precedence, then AND or no operator, then NOT."""

    def __init__(self, text: str) -> None:
        self._parts = _parts(text)
        self._part = next(self._parts)
        self._nesting, self._terms = 0, 0

    def parse(self) -> Condition:
        condition = self._disjunction()
        if self._part.operator or self._part.text:
            raise self._malformed(f"unexpected {self._part.operator}")
        return condition

    def _disjunction(self) -> Condition:
        terms = [self._conjunction()]
        while self._takes("OR"):
            terms.append(self._conjunction())
        return Or(tuple(terms)) if len(terms) > 1 else terms[0]

    def _conjunction(self) -> Condition:
        terms = [self._term()]
        while self._takes("AND") or self._part.text or self._part.operator in {"NOT", "("}:
            terms.append(self._term())
        return And(tuple(terms)) if len(terms) > 1 else terms[0]

    def _term(self) -> Condition:
        part = self._part
        self._nesting += 1
        if self._nesting > NESTING_LIMIT:
            raise self._malformed(f"nested deeper than {NESTING_LIMIT} levels")
        if self._takes("NOT"):
            term: Condition = Not(self._term())
        elif self._takes("("):
            term = self._disjunction()
            if not self._takes(")"):
                raise self._malformed("expected ')'")
        elif part.text:
            self._part = next(self._parts)
            self._terms += 1
            if self._terms > TERMS_LIMIT:
                raise self._malformed(f"more than {TERMS_LIMIT} words")
            term = Found(part.text)
        else:
            raise self._malformed("expected a word or a phrase")
        self._nesting -= 1
        return term

    def _takes(self, operator: str) -> bool:
        """Go past the operator if it is next. Returns whether it was."""
        if self._part.operator != operator:
            return False
        self._part = next(self._parts)
        return True

    def _malformed(self, fault: str) -> Invalid:
        return malformed(SEARCH, fault, self._part.position)


def _parts(text: str) -> Iterator[_Part]:
    """Split a search into its parts. Positions count from 1."""
    offset = 0
    while offset < len(text):
        match = _TOKEN.match(text, offset)
        position = offset + 1
        if match is None or (match["phrase"] is not None and not match["end"]):
            raise malformed(SEARCH, "a phrase without its closing quote", position)
        offset = match.end()
        if match["phrase"] is not None:
            phrase = re.sub(r"\\(.)", r"\1", match["phrase"], flags=re.DOTALL)
            if not phrase:
                raise malformed(SEARCH, "an empty phrase", position)
            yield _Part(position, text=phrase)
        elif match["bracket"] or match["word"] in {"AND", "OR", "NOT"}:
            yield _Part(position, operator=match[0])
        elif match["word"]:
            yield _Part(position, text=match["word"])
    yield _Part(offset + 1)
