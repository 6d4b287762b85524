"""`$filter` as it is written."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.api.odata.filter import CONDITIONS_LIMIT, NESTING_LIMIT, parse_filter
from tracker.domain.operation import OperationStatus
from tracker.errors import Invalid, NotSupported
from tracker.listing.conditions import (
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
)

RUNNING = OperationStatus.RUNNING
FAILED = OperationStatus.FAILED


def eq(member: str, value: Any) -> Comparison:
    return Comparison(member, Operator.EQ, value)


A, B, C = (eq("clientContext", letter) for letter in "abc")


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("status eq 'Running'", eq("status", RUNNING)),
        ("status eq 'running'", eq("status", RUNNING)),
        ("status EQ 'notStarted'", eq("status", OperationStatus.NOT_STARTED)),
        ("status eq microsoft.graph.operationStatus'NotStarted'", eq("status", OperationStatus.NOT_STARTED)),
        ("status eq Microsoft.Graph.OPERATIONSTATUS'running'", eq("status", RUNNING)),
        ("status ne null", Comparison("status", Operator.NE, None)),
        ("  status\teq\t'Failed' ", eq("status", FAILED)),
        ("$it/status eq 'Failed'", eq("status", FAILED)),
        ("clientContext eq ''", eq("clientContext", "")),
        ("clientContext eq 'O''Neill'", eq("clientContext", "O'Neill")),
        ("clientContext eq ''''", eq("clientContext", "'")),
        ("clientContext eq 'a and b or (c)'", eq("clientContext", "a and b or (c)")),
        ("clientContext eq NULL", eq("clientContext", None)),
        ("id lt 'x'", Comparison("id", Operator.LT, "x")),
        ("'x' lt id", Comparison("id", Operator.GT, "x")),
        ("'Running' EQ status", eq("status", RUNNING)),
        ("createdDateTime ge 1970-01-01T00:00:01Z", Comparison("createdDateTime", Operator.GE, 1_000_000)),
        ("createdDateTime lt 1970-01-01t00:01z", Comparison("createdDateTime", Operator.LT, 60_000_000)),
        ("startedDateTime gt 1970-01-01T02:00:00.5+02:00", Comparison("startedDateTime", Operator.GT, 500_000)),
        ("completedDateTime eq 1970-01-01T00:00:00.0000010Z", eq("completedDateTime", 1)),
        ("completedDateTime eq 1970-01-01T00:00:00.0000012Z", eq("completedDateTime", 1.5)),
        ("lastActionDateTime eq 1969-12-31T23:59:59Z", eq("lastActionDateTime", -1_000_000)),
        ("expirationDateTime eq null", eq("expirationDateTime", None)),
        ("resultInfo/code eq 200", eq("resultInfo/code", 200)),
        ("resultInfo/subcode le -1", Comparison("resultInfo/subcode", Operator.LE, -1)),
        ("status in ('Running', 'failed')", Membership("status", (RUNNING, FAILED))),
        ("clientContext IN ('a',null)", Membership("clientContext", ("a", None))),
        ("startswith(clientContext,'a')", Match(Function.STARTSWITH, "clientContext", "a")),
        ("EndsWith( id , 'a''b' )", Match(Function.ENDSWITH, "id", "a'b")),
        ("contains(clientContext,null)", Match(Function.CONTAINS, "clientContext", None)),
        ("isof('microsoft.graph.playPromptOperation')", TypeOf("microsoft.graph.playPromptOperation")),
        ("isof('#contoso.x')", TypeOf("#contoso.x")),
        ("ISOF($it, contoso.x)", TypeOf("contoso.x")),
    ],
)
def test_a_comparison_is_read(text: str, condition: Condition) -> None:
    assert parse_filter(text) == condition


@pytest.mark.parametrize(
    ("text", "condition"),
    [
        ("A and B and C", And((A, B, C))),
        ("A OR B Or C", Or((A, B, C))),
        ("A or B and C", Or((A, And((B, C))))),
        ("(A or B) and C", And((Or((A, B)), C))),
        ("A and (B and C)", And((A, And((B, C))))),
        ("not A and B", And((Not(A), B))),
        ("NOT (A and B)", Not(And((A, B)))),
        ("not not A", Not(Not(A))),
        ("((A))", A),
        ("(clientContext) eq ('a')", A),
        ("not(A)or(B)", Or((Not(A), B))),
    ],
)
def test_and_binds_before_or_and_not_before_both(text: str, condition: Condition) -> None:
    for letter in "ABC":
        text = re.sub(rf"\b{letter}\b", f"clientContext eq '{letter.lower()}'", text)
    assert parse_filter(text) == condition


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", 1),
        ("status eq", 10),
        ("status eq and", 11),
        ("status eq 'Running", 11),
        ("status eq 'Running' and", 24),
        ("status eq 'Running' clientContext eq 'x'", 21),
        ("status eq 'Running')", 20),
        ("(status eq 'Running'", 21),
        ("()", 2),
        ("not", 4),
        ("and status eq 'Running'", 1),
        ("length(x) eq 1 or (", 20),
        ("contains(clientContext, 'x'", 28),
        ("contains(clientContext 'x')", 24),
        ("contains(clientContext,)", 24),
        ("contains(clientContext)", 1),
        ("contains(clientContext,'x','y')", 1),
        ("contains(status,'x')", 10),
        ("contains(createdDateTime,'x')", 10),
        ("contains(clientContext,5)", 24),
        ("status in 'Running'", 11),
        ("status in ()", 13),
        ("status in ('Running',)", 22),
        ("status in ('Running','Sleeping')", 22),
        ("status & 5", 8),
        ('clientContext eq "x"', 18),
        ("status eq 'Sleeping'", 11),
        ("status eq 'RUNNING'", 11),
        ("status eq 5", 11),
        ("status eq contoso.status'Running'", 11),
        ("clientContext eq 5", 18),
        ("clientContext eq true", 18),
        ("5 eq clientContext", 1),
        ("clientContext eq \udcff", 18),
        ("createdDateTime gt '2026-01-01T00:00:00Z'", 20),
        ("createdDateTime gt 2026-01-01", 20),
        ("createdDateTime gt 2026-13-01T00:00:00Z", 20),
        ("createdDateTime gt 2026-01-01T00:00:60Z", 20),
        ("createdDateTime gt 2026-01-01T00:00:00", 20),
        ("createdDateTime gt 2026-01-01T00:00:00+99:99", 20),
        ("createdDateTime gt 5", 20),
        ("resultInfo/code eq '200'", 20),
        ("resultInfo/code eq 2x", 20),
        ("resultInfo/code eq true", 20),
        ("isof()", 1),
        ("isof('no type')", 1),
        ("isof(null)", 1),
        ("isof(x.y'z')", 1),
    ],
)
def test_a_malformed_filter_names_the_position(text: str, position: int) -> None:
    with pytest.raises(Invalid, match=rf"at position {position}\.$") as caught:
        parse_filter(text)
    assert caught.value.target == "$filter"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("status", "without a comparison (at position 1)"),
        ("true", "without a comparison"),
        ("status eq 'Running' and not true", "without a comparison (at position 29)"),
        ("status has 'Running'", "`has` (at position 8)"),
        ("Status eq 'Running'", "'Status'"),
        ("percentComplete gt 50", "'percentComplete'"),
        ("resultInfo eq null", "'resultInfo'"),
        ("resultInfo/message eq 'x'", "'resultInfo/message'"),
        ("foo in ('a')", "'foo'"),
        ("clientContext eq @p", "that is not between a member and a literal"),
        ("length(clientContext) gt 5 and status eq 'Running'", "'length'"),
        ("tolower(clientContext) eq 'a'", "'tolower'"),
        ("contains(tolower(clientContext),'a')", "'tolower'"),
        ("contains('abc',clientContext)", "contains that is not of a member and a string"),
        ("startswith(clientContext,id)", "startswith that is not"),
        ("startswith(clientContext,'a') eq true", "that is not between a member and a literal"),
        ("isof(resultInfo,'x.y')", "isof of a member"),
        ("now() gt createdDateTime", "'now'"),
        ("attempt add 1 eq 2", "arithmetic (at position 1)"),
        ("-attempt eq -2", "arithmetic"),
        ("-(attempt) eq 2", "arithmetic"),
        ("status eq clientContext", "that is not between a member and a literal"),
        ("1 eq 1", "that is not between a member and a literal"),
        ("participants/any()", "'participants/any'"),
        ("participants/any(p:p/name eq 'x' and p/id ne null)", "'participants/any'"),
        ("participants/all(p:p eq 'x') or status eq 'Running'", "'participants/all'"),
        ("case(status eq 'Running':1,true:2) eq 1", "'case'"),
        ("f(1)/y eq 2", "a path after 'f'"),
        ("resultInfo/code eq 200.5", "the number 200.5"),
        ("resultInfo/code in (1,2e3)", "the number 2e3"),
        ("status in (clientContext)", "`in` that is not"),
        ("createdDateTime sub startedDateTime gt duration'PT1S'", "arithmetic"),
    ],
)
def test_a_well_formed_filter_that_is_not_served_is_named(text: str, named: str) -> None:
    with pytest.raises(NotSupported, match="is not supported") as caught:
        parse_filter(text)
    assert named in caught.value.message


def test_deep_nesting_is_refused_and_does_not_overflow() -> None:
    for opening, closing in [("(", ")"), ("not ", ""), ("contains(", ")"), ("- ", "")]:
        with pytest.raises(Invalid, match="nested deeper"):
            parse_filter(opening * 4000 + "status eq 'Running'" + closing * 4000)
    text = "(" * NESTING_LIMIT + "status eq 'Running'" + ")" * NESTING_LIMIT
    assert parse_filter(text) == eq("status", RUNNING)


def test_a_filter_has_a_bounded_number_of_conditions_and_any_number_of_values() -> None:
    condition = parse_filter(" or ".join(["id eq 'x'"] * CONDITIONS_LIMIT))
    assert isinstance(condition, Or)
    assert len(condition.terms) == CONDITIONS_LIMIT
    with pytest.raises(Invalid, match="more than 200 conditions at position"):
        parse_filter("(" + ") or (".join(["id eq 'x' and id eq 'y'"] * 101) + ")")
    values = parse_filter("id in (" + ",".join(["'x'"] * 1500) + ")")
    assert isinstance(values, Membership)
    assert len(values.values) == 1500


NAMES = ("status", "clientContext", "createdDateTime", "resultInfo/code", "id", "true", "null")
OPERATORS = ("eq", "ne", "gt", "in", "and", "or", "not", "has", "add", "-", ":", "/", "(", ")", ",")
OTHERS = ("'Running'", "''", "5", "2026-01-01T00:00:00Z", "startswith(", "isof(", "any(")
words = st.sampled_from((*NAMES, *OPERATORS, *OTHERS))


@given(st.text(max_size=60) | st.lists(words, max_size=12).map(" ".join))
def test_any_text_is_served_refused_or_malformed(text: str) -> None:
    try:
        condition = parse_filter(text)
    except (Invalid, NotSupported) as error:
        assert error.target == "$filter"  # noqa: PT017 - either error is fine
        return
    assert isinstance(condition, Condition)


@given(st.text())
def test_any_string_survives_quoting(text: str) -> None:
    quoted = text.replace("'", "''")
    assert parse_filter(f"clientContext eq '{quoted}'") == eq("clientContext", text)
