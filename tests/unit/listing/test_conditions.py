"""Conditions: their meaning, their text, and the indexes that are read for them."""

import pytest
from hypothesis import given

from tests.support.random_conditions import conditions, holds, records
from tests.support.records import make_record
from tracker.api.odata.filter import parse_filter
from tracker.api.odata.filter_text import filter_text
from tracker.api.odata.search import parse_search
from tracker.domain.operation import OperationStatus, ResultInfo
from tracker.domain.record import Record
from tracker.listing.conditions import Condition, compiled
from tracker.listing.planner import Plan, SortKey, as_of, comparable, complete, plan, position

RUNNING = OperationStatus.RUNNING


def true_of(text: str, record: Record) -> bool | None:
    return compiled(parse_filter(text))(record)


@given(conditions)
def test_a_condition_that_is_written_and_read_is_the_same(condition: Condition) -> None:
    assert parse_filter(filter_text(condition)) == condition


@given(conditions, records())
def test_a_condition_means_what_tables_say_of_the_resource(condition: Condition, record: Record) -> None:
    assert (compiled(condition)(record) is True) == holds(condition, record)


@given(conditions, records())
def test_a_plan_finds_what_satisfies_the_condition_and_nothing_else(condition: Condition, record: Record) -> None:
    found = plan(condition)
    within = (
        not found.nothing
        and (found.statuses is None or record.status in found.statuses)
        and (found.contexts is None or record.client_context in found.contexts)
        and (found.ids is None or record.id in found.ids)
        and (found.first is None or record.created >= found.first)
        and (found.last is None or record.created <= found.last)
    )
    asked = True if found.rest is None else compiled(found.rest)(record)
    assert (within and asked is True) == holds(condition, record)
    assert found.satisfies(record) == compiled(condition)(record)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("clientContext eq null", True),
        ("clientContext ne null", False),
        ("clientContext ne 'a'", True),
        ("clientContext in ('a',null)", True),
        ("clientContext lt 'a'", False),
        ("clientContext ge null", False),
        ("startswith(clientContext,'')", None),
        ("not contains(clientContext,'a')", None),
        ("contains(id,null)", None),
        ("contains(clientContext,'a') or status eq 'Running'", True),
        ("contains(clientContext,'a') and status eq 'Failed'", False),
        ("contains(clientContext,'a') and status eq 'Running'", None),
        ("resultInfo/code eq null", True),
        ("startedDateTime le 2100-01-01T00:00:00Z", False),
    ],
)
def test_null_is_compared_as_odata_says(text: str, expected: bool | None) -> None:
    assert true_of(text, make_record(client_context=None, status=RUNNING)) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("status gt 'NotStarted'", True),
        ("status lt 'Completed'", True),
        ("status ge 'Failed'", False),
        ("createdDateTime eq 1970-01-01T01:00:01.5+01:00", True),
        ("createdDateTime lt 1970-01-01T00:00:01.5000001Z", True),
        ("createdDateTime ge 1970-01-01T00:00:01.5000001Z", False),
        ("resultInfo/code ge 500 and resultInfo/subcode eq 2", True),
        ("clientContext gt 'A'", True),
        ("endswith(clientContext,'text')", True),
        ("isof('#Contoso.Other')", True),
        ("isof('microsoft.graph.commsOperation')", True),
        ("isof('microsoft.graph.playPromptOperation')", False),
    ],
)
def test_members_are_compared_by_their_kind(text: str, expected: bool) -> None:
    record = make_record(
        client_context="a text",
        status=RUNNING,
        type="#contoso.other",
        created=1_500_000,
        result_info=ResultInfo(code=503, subcode=2),
    )
    assert true_of(text, record) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("transcoding", True),
        ("INVOICE", True),
        ("voice", True),
        ("invoice transcoding", True),
        ("invoice AND other", False),
        ("other OR invoice", True),
        ("NOT other", True),
        ("NOT (other OR invoice)", False),
        ('"invoice 17"', True),
        ('"17 invoice"', False),
        ("and", False),
    ],
)
def test_a_search_looks_into_client_context_and_status_detail(text: str, expected: bool) -> None:
    record = make_record(client_context="Invoice 17", detail="Transcoding")
    assert compiled(parse_search(text))(record) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("status eq 'Running'", Plan(statuses=(RUNNING,))),
        ("status in ('Running','Failed') and status ne 'Failed'", Plan(statuses=(RUNNING,))),
        ("not (status eq 'Running' or status gt 'Running')", Plan(statuses=(OperationStatus.NOT_STARTED,))),
        ("clientContext eq 'a' or clientContext in ('b','a')", Plan(contexts=("a", "b"))),
        ("id eq 'x' and (id in ('x','y'))", Plan(ids=("x",))),
        ("id eq 'x' and id eq 'y'", Plan(ids=())),
        (
            "createdDateTime gt 1970-01-01T00:00:01Z and createdDateTime le 1970-01-01T00:00:02.0000001Z",
            Plan(first=1_000_001, last=2_000_000),
        ),
        ("createdDateTime eq 1970-01-01T00:00:01Z", Plan(first=1_000_000, last=1_000_000)),
    ],
)
def test_indexes_serve_what_is_joined_with_and(text: str, expected: Plan) -> None:
    found = plan(parse_filter(text))
    assert found.rest is None
    parts = ("statuses", "contexts", "ids", "first", "last")
    assert [getattr(found, part) for part in parts] == [getattr(expected, part) for part in parts]


@pytest.mark.parametrize(
    "text",
    [
        "status eq 'Running' or clientContext eq 'a'",
        "clientContext ne 'a'",
        "clientContext eq null",
        "clientContext in ('a',null)",
        "startswith(clientContext,'a')",
        "createdDateTime ne 1970-01-01T00:00:01Z",
        "id gt 'a'",
        f"clientContext in ({','.join(repr(str(number)) for number in range(17))})",
        "startedDateTime eq null",
    ],
)
def test_everything_else_is_asked_of_the_records(text: str) -> None:
    condition = parse_filter(text)
    assert plan(condition).rest == condition


def test_an_order_is_total_and_has_nothing_after_a_member_that_no_two_share() -> None:
    assert complete([]) == (SortKey("createdDateTime", descending=True),)
    assert complete([SortKey("status"), SortKey("status", descending=True)]) == (SortKey("status"), SortKey("id"))
    assert complete([SortKey("createdDateTime"), SortKey("status")]) == (SortKey("createdDateTime"),)
    assert complete([SortKey("status"), SortKey("id", descending=True), SortKey("clientContext")]) == (
        SortKey("status"),
        SortKey("id", descending=True),
    )


@pytest.mark.parametrize("descending", [False, True])
def test_nulls_are_the_least_of_an_order(descending: bool) -> None:
    order = complete([SortKey("clientContext", descending), SortKey("resultInfo/code", descending)])
    several = [
        make_record(client_context=context, result_info=result)
        for context in (None, "", "a", "B")
        for result in (None, ResultInfo(code=-1), ResultInfo(code=200))
    ]
    ordered = sorted(several, key=lambda record: comparable(order, position(order, record)))
    found = [
        (record.client_context, None if record.result_info is None else record.result_info.code) for record in ordered
    ]
    expected = [(context, code) for context in (None, "", "B", "a") for code in (None, -1, 200)]
    assert found == (expected[::-1] if descending else expected)


def test_an_order_sees_an_operation_as_it_was() -> None:
    record = make_record(created=10, started=20, completed=30, expires=99, changed=30, status=OperationStatus.COMPLETED)
    seen = [as_of(record, moment) for moment in (9, 10, 20, 29, 30)]
    assert [None if then is None else (then.status, then.started, then.completed, then.expires) for then in seen] == [
        None,
        (OperationStatus.NOT_STARTED, 0, 0, 0),
        (RUNNING, 20, 0, 0),
        (RUNNING, 20, 0, 0),
        (OperationStatus.COMPLETED, 20, 30, 99),
    ]
    asked = make_record(created=10, started=20, cancel_requested=25, changed=26, status=RUNNING)
    assert [then.cancel_requested for moment in (24, 25) if (then := as_of(asked, moment))] == [0, 25]
    started = make_record(created=10, started=20, changed=20, status=RUNNING)
    assert [then.status for moment in (19, 20) if (then := as_of(started, moment))] == [
        OperationStatus.NOT_STARTED,
        RUNNING,
    ]
