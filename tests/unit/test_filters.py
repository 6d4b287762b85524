import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.api.filters import NESTING_LIMIT, Criteria, parse_filter
from tracker.errors import Invalid, NotSupported
from tracker.model import OperationStatus

RUNNING = OperationStatus.RUNNING
NOT_STARTED = OperationStatus.NOT_STARTED


@pytest.mark.parametrize(
    ("text", "criteria"),
    [
        ("status eq 'Running'", Criteria(status=RUNNING)),
        ("status eq 'running'", Criteria(status=RUNNING)),
        ("status EQ 'notStarted'", Criteria(status=NOT_STARTED)),
        ("status eq microsoft.graph.operationStatus'NotStarted'", Criteria(status=NOT_STARTED)),
        ("  status\teq\t'Failed' ", Criteria(status=OperationStatus.FAILED)),
        ("clientContext eq 'abc'", Criteria(client_context="abc")),
        ("clientContext eq ''", Criteria(client_context="")),
        ("clientContext eq 'O''Neill'", Criteria(client_context="O'Neill")),
        ("clientContext eq ''''", Criteria(client_context="'")),
        ("clientContext eq 'a and b or (c)'", Criteria(client_context="a and b or (c)")),
        ("status eq 'Running' and clientContext eq 'x'", Criteria(RUNNING, "x")),
        ("clientContext eq 'x' AND status eq 'Running'", Criteria(RUNNING, "x")),
        ("status eq 'Running' and status eq 'Running'", Criteria(status=RUNNING)),
    ],
)
def test_equality_of_status_and_client_context_is_served(text: str, criteria: Criteria) -> None:
    assert parse_filter(text) == criteria


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
        ("and status eq 'Running'", 1),
        ("status ne 'Running' or (", 25),
        ("contains(clientContext, 'x'", 28),
        ("contains(clientContext 'x')", 24),
        ("status in 'Running'", 11),
        ("status & 5", 8),
        ('clientContext eq "x"', 18),
        ("status eq 'Sleeping'", 11),
        ("status eq 'RUNNING'", 11),
        ("status eq 5", 11),
        ("status eq null", 11),
        ("status eq contoso.status'Running'", 11),
        ("clientContext eq 5", 18),
        ("clientContext eq true", 18),
        ("clientContext eq \udcff", 18),
    ],
)
def test_a_malformed_filter_names_the_position(text: str, position: int) -> None:
    with pytest.raises(Invalid, match=rf"at position {position}\.$") as caught:
        parse_filter(text)
    assert caught.value.target == "$filter"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("status", "without a comparison"),
        ("status ne 'Running'", "`ne`"),
        ("createdDateTime gt 2026-01-01T00:00:00Z", "`gt`"),
        ("id eq 'x'", "'id'"),
        ("resultInfo/code eq 200", "'resultInfo/code'"),
        ("Status eq 'Running'", "'Status'"),
        ("status eq 'Running' or status eq 'Failed'", "`or`"),
        ("status eq 'Running' and status eq 'Failed'", "more than one value of status"),
        ("not status eq 'Running'", "`not`"),
        ("not not (status eq 'Running')", "`not`"),
        ("(status eq 'Running')", "parenthesis"),
        ("status in ('Running','Failed')", "`in`"),
        ("startswith(clientContext,'x')", "'startswith'"),
        ("length(clientContext) gt 5 and status eq 'Running'", "'length'"),
        ("isof('microsoft.graph.playPromptOperation')", "'isof'"),
        ("now() gt createdDateTime", "'now'"),
        ("attempt add 1 eq 2", "arithmetic"),
        ("'Running' eq status", "other than of a member with a literal"),
        ("status eq clientContext", "other than of a member with a literal"),
        ("clientContext eq null", "null"),
    ],
)
def test_a_well_formed_filter_that_is_not_served_is_named(text: str, named: str) -> None:
    with pytest.raises(NotSupported, match="is not supported") as caught:
        parse_filter(text)
    assert named in caught.value.message


def test_deep_nesting_is_refused_and_does_not_overflow() -> None:
    with pytest.raises(Invalid, match="nested deeper"):
        parse_filter("(" * 4000 + "status eq 'Running'" + ")" * 4000)
    with pytest.raises(NotSupported):
        parse_filter("(" * NESTING_LIMIT + "status eq 'Running'" + ")" * NESTING_LIMIT)


@given(st.text(max_size=60) | st.text(alphabet="status eqandor'(),ntclieC$ \t5.", max_size=60))
def test_any_text_is_served_refused_or_malformed(text: str) -> None:
    try:
        criteria = parse_filter(text)
    except (Invalid, NotSupported):
        return
    assert criteria != Criteria()


@given(st.text())
def test_any_string_survives_quoting(text: str) -> None:
    quoted = text.replace("'", "''")
    assert parse_filter(f"clientContext eq '{quoted}'") == Criteria(client_context=text)
