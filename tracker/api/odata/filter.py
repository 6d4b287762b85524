"""Parser of `$filter`. It recognises the whole grammar of OData, and supports a part of it.

Malformed text is Invalid (400), with the position. A well-formed expression that is not supported is NotSupported
(501; OData 4.01, part 1, 9.3.1). So a client learns whether its text is wrong or the service lacks a feature.
"""

import re
from collections.abc import Callable, Sequence
from typing import Final

from tracker.api.odata.literals import FILTER, STATUSES, is_null, value_for
from tracker.api.odata.tokens import Form, Token, malformed, tokens
from tracker.domain.operation import TYPE_NAME
from tracker.errors import NotSupported
from tracker.listing.conditions import (
    MEMBERS,
    And,
    Comparison,
    Condition,
    Function,
    Match,
    Membership,
    Not,
    Operator,
    Or,
    TypeOf,
    ValueKind,
)

NESTING_LIMIT: Final = 32
CONDITIONS_LIMIT: Final = 200
"""How many conditions `and` and `or` join in one filter at most. Each is evaluated for up to 10,000 operations."""

_COMPARISONS: Final = frozenset(Operator)
_FUNCTIONS: Final = frozenset(Function)
_ARITHMETIC: Final = frozenset({"add", "sub", "mul", "div", "divby", "mod"})
_RESERVED: Final = _COMPARISONS | _ARITHMETIC | {"and", "or", "not", "in", "has"}
_CONSTANTS: Final = frozenset({"true", "false", "null", "nan", "inf"})
_FLIPPED: Final = {"gt": "lt", "ge": "le", "lt": "gt", "le": "ge"}
_CURRENT: Final = "$it"
"""The name of the operation that the filter tests (OData 4.01, part 2, 5.1.1.14.4)."""

Node = Condition | Token | None
"""The meaning of an expression: a condition, or the token of a member or literal. None means: not supported."""


def parse_filter(text: str) -> Condition:
    """Read a `$filter`. Raises Invalid with the position, or NotSupported that names the first unsupported form."""
    return _Parser(text).parse()


class _Parser:
    """Recursive descent, one method per level of precedence.

    The parser continues after an unsupported form, and raises NotSupported at the end of the text. If the text is also
    malformed, it raises Invalid instead.
    """

    def __init__(self, text: str) -> None:
        self._tokens = tokens(text, FILTER)
        self._token = next(self._tokens)
        self._unsupported: NotSupported | None = None
        self._nesting, self._conditions = 0, 1

    def parse(self) -> Condition:
        node = self._condition(self._disjunction())
        if self._token.form is not Form.END:
            raise malformed(FILTER, "expected an operator or the end", self._token.position)
        if node is None or self._unsupported is not None:
            raise self._unsupported or AssertionError("an unsupported form is remembered")
        return node

    def _disjunction(self) -> Node:
        return self._joined("or", self._conjunction, Or)

    def _conjunction(self) -> Node:
        return self._joined("and", self._negation, And)

    def _joined(self, word: str, operand: Callable[[], Node], join: type[And | Or]) -> Node:
        first = operand()
        if not self._token.is_word(word):
            return first
        terms = [self._condition(first)]
        while self._takes(word):
            self._conditions += 1
            if self._conditions > CONDITIONS_LIMIT:
                raise malformed(FILTER, f"more than {CONDITIONS_LIMIT} conditions", self._token.position)
            terms.append(self._condition(operand()))
        supported = tuple(term for term in terms if term is not None)
        return join(supported) if len(supported) == len(terms) else None

    def _negation(self) -> Node:
        if not self._takes("not"):
            return self._comparison()
        term = self._condition(self._nested(self._negation))
        return None if term is None else Not(term)

    def _comparison(self) -> Node:
        start, left = self._token, self._operand()
        operator = self._token
        if self._takes(*_COMPARISONS):
            return self._comparison_of(start, left, Operator(operator.text.lower()), self._operand())
        if self._takes("has"):
            self._operand()
            return self._remember_unsupported("`has`", operator)
        if self._takes("in"):
            return self._membership_of(start, left, self._list())
        return left

    def _comparison_of(self, start: Token, left: Node, operator: Operator, right: Node) -> Condition | None:
        if _is_literal(left) and not _is_literal(right):
            left, right, operator = right, left, Operator(_FLIPPED.get(operator, operator))
        if isinstance(right, Token) and right.text in STATUSES and not _is_literal(right):
            raise malformed(FILTER, f"a status is written in quotes: '{right.text}'", right.position)
        if not isinstance(left, Token) or not isinstance(right, Token) or _is_literal(left) or not _is_literal(right):
            return self._remember_unsupported("a comparison that is not between a member and a literal", start)
        member = self._member(left)
        return None if member is None else Comparison(member, operator, self._value(member, right))

    def _membership_of(self, start: Token, left: Node, nodes: Sequence[Node]) -> Condition | None:
        if not nodes:
            raise malformed(FILTER, "expected a value after `in (`", self._token.position)
        literals = [node for node in nodes if isinstance(node, Token) and _is_literal(node)]
        if not isinstance(left, Token) or _is_literal(left) or len(literals) < len(nodes):
            return self._remember_unsupported("`in` that is not between a member and literals", start)
        member = self._member(left)
        return None if member is None else Membership(member, tuple(self._value(member, token) for token in literals))

    def _operand(self) -> Node:
        start, operand = self._token, self._term()
        while self._takes(*_ARITHMETIC):
            self._term()
            operand = self._remember_unsupported("arithmetic", start)
        return operand

    def _term(self) -> Node:
        token = self._token
        if token.is_punctuation("("):
            return self._group()
        if token.is_punctuation("-"):
            self._advance()
            self._nested(self._term)
            return self._remember_unsupported("arithmetic", token)
        if token.form in {Form.END, Form.PUNCTUATION} or token.is_word(*_RESERVED):
            raise malformed(FILTER, "expected a member or a value", token.position)
        self._advance()
        if token.form is Form.WORD and self._token.is_punctuation("("):
            return self._call(token)
        return token

    def _group(self) -> Node:
        self._advance()
        node = self._nested(self._disjunction)
        self._expect(")")
        return node

    def _call(self, name: Token) -> Node:
        called = name.text.lower().rpartition("/")[2]
        if called in {"any", "all", "case"}:
            self._remember_unsupported(f"the function {name.text!r}", name)
        arguments = self._list(colons=called in {"any", "all", "case"})
        if self._token.is_punctuation("/"):  # a member of the function's result
            self._advance()
            self._nested(self._term)
            return self._remember_unsupported(f"a path after {name.text!r}", name)
        if name.is_word(*_FUNCTIONS):
            return self._match_of(name, arguments)
        if name.is_word("isof"):
            return self._type_of(name, arguments)
        return self._remember_unsupported(f"the function {name.text!r}", name)

    def _match_of(self, name: Token, arguments: Sequence[Node]) -> Condition | None:
        if len(arguments) != 2:  # noqa: PLR2004 - the text, and the text to find in it
            raise malformed(FILTER, f"{name.text} takes two arguments", name.position)
        left, right = arguments
        if not isinstance(left, Token) or _is_literal(left) or not isinstance(right, Token) or not _is_literal(right):
            return self._remember_unsupported(f"{name.text} that is not of a member and a string", name)
        member = self._member(left)
        if member is None:
            return None
        if MEMBERS[member].kind is not ValueKind.TEXT:
            raise malformed(FILTER, f"{name.text} takes a string, which {member} is not,", left.position)
        text = self._value(member, right)
        return Match(Function(name.text.lower()), member, None if text is None else str(text))

    def _type_of(self, name: Token, arguments: Sequence[Node]) -> Condition | None:
        *of, type_name = arguments or [None]
        if not isinstance(type_name, Token) or not _names_type(type_name):
            raise malformed(FILTER, "isof takes the name of a type", name.position)
        if of and not (len(of) == 1 and isinstance(of[0], Token) and of[0].text == _CURRENT):
            return self._remember_unsupported("isof of a member", name)
        return TypeOf(type_name.text)

    def _list(self, *, colons: bool = False) -> list[Node]:
        """The expressions in parentheses, separated by commas. In a lambda or a `case`, colons separate them, too."""
        self._expect("(")
        nodes: list[Node] = []
        while nodes or not self._token.is_punctuation(")"):
            nodes.append(self._nested(self._disjunction))
            if self._token.is_punctuation(")"):
                break
            self._expect(":" if colons and self._token.is_punctuation(":") else ",")
        self._expect(")")
        return nodes

    def _condition(self, node: Node) -> Condition | None:
        if isinstance(node, Token):
            return self._remember_unsupported("a condition without a comparison", node)
        return node

    def _member(self, token: Token) -> str | None:
        name = token.text.removeprefix(f"{_CURRENT}/")
        if name not in MEMBERS:
            self._remember_unsupported(f"the member {token.text!r}", token)
            return None
        return name

    def _value(self, member: str, token: Token) -> str | int | float | None:
        try:
            return value_for(member, token)
        except NotSupported as error:
            self._unsupported = self._unsupported or error
            return None

    def _nested(self, expression: Callable[[], Node]) -> Node:
        """Parse an expression that is one level deeper. Raises Invalid beyond NESTING_LIMIT."""
        self._nesting += 1
        if self._nesting > NESTING_LIMIT:
            raise malformed(FILTER, f"nested deeper than {NESTING_LIMIT} levels", self._token.position)
        node = expression()
        self._nesting -= 1
        return node

    def _takes(self, *words: str) -> bool:
        if not self._token.is_word(*words):
            return False
        self._advance()
        return True

    def _expect(self, punctuation: str) -> None:
        if not self._token.is_punctuation(punctuation):
            raise malformed(FILTER, f"expected {punctuation!r}", self._token.position)
        self._advance()

    def _advance(self) -> None:
        self._token = next(self._tokens)

    def _remember_unsupported(self, form: str, token: Token) -> Condition | None:
        """Remember the first unsupported form. Returns None, the meaning of an unsupported form."""
        if self._unsupported is None:
            message = f"$filter: {form} (at position {token.position}) is not supported."
            self._unsupported = NotSupported(message, target=FILTER)
        return None


def _is_literal(node: Node) -> bool:
    """Whether the node is a literal. Other tokens are members: words that are no constants."""
    return isinstance(node, Token) and (node.form is not Form.WORD or node.text.lower() in _CONSTANTS)


def _names_type(token: Token) -> bool:
    """Whether the token is a type's name: in quotes (OData 4.0) or without (OData 4.01)."""
    is_name = token.form is Form.STRING or (token.form is Form.WORD and not is_null(token))
    return is_name and re.fullmatch(TYPE_NAME, token.text) is not None
