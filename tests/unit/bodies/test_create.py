"""Bodies of creates: names, delays and dates, and members."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker import Operation
from tracker.bodies.create import check_call_id, read_create
from tracker.bodies.members import DEPTH_LIMIT, _known_result
from tracker.bodies.start_time import LONGEST_WAIT
from tracker.config import BUILT_IN_TYPES
from tracker.domain.operation import SECOND
from tracker.domain.type_modules import load_types
from tracker.domain.type_registry import OperationType, TypeRegistry
from tracker.errors import Invalid

LONGEST = LONGEST_WAIT.total_seconds()


class Plain(Operation, type="#test.plain"):
    pass


class Own(Operation, type="#test.own"):
    delay: str
    not_before: int = 7


CATALOGUE = TypeRegistry()
for model in (Plain, Own):
    CATALOGUE.add(OperationType(model.odata_type, model, None))


def draft(kind: str = "#test.plain", **body: Any) -> Any:
    return read_create("call-1", {"@odata.type": kind, **body}, CATALOGUE)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0),
        (0, 0),
        (90, 90),
        (0.25, 0.25),
        ("90s", 90),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("PT90S", 90),
        ("PT1H30M", 5400),
        ("P1D", 86400),
        ("P2DT1M0.5S", 172860.5),
        ("366d", LONGEST),
    ],
)
def test_a_delay_is_a_number_of_seconds_or_a_duration(value: Any, seconds: float) -> None:
    read = draft(delay=value, other=1)
    assert (read.delay, read.not_before, read.members) == (seconds, 0, {"other": 1})


@pytest.mark.parametrize(
    "value",
    [
        *(-1, -0.001, LONGEST + 1, 10**400, 1e308, "367d", "9" * 500 + "s", "PT" + "9" * 500 + "S"),
        *("", "90", "soon", "-90s", "-PT90S", "P", "PT", "P1DT", "P1Y", "P1M", "P1W", "PT1.5H", "pt90s", "PT90S "),
        *(True, [], {"seconds": 1}),
    ],
)
def test_a_malformed_delay_is_refused(value: Any) -> None:
    with pytest.raises(Invalid) as refused:
        draft(delay=value)
    assert [detail.target for detail in refused.value.details] == ["delay"]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31t12:00:00.25z", datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)),
        ("2026-01-31T13:30:00+01:30", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00.123456789-00:00", datetime(2026, 1, 31, 12, 0, 0, 123_456, tzinfo=UTC)),
    ],
)
def test_a_date_is_read_with_its_offset(text: str, moment: datetime) -> None:
    read = draft(notBefore=text)
    assert (read.not_before, read.delay, read.members) == (round(moment.timestamp() * SECOND), 0, {})


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+23:59", "1969-12-31T23:59:59Z"])
def test_a_date_before_all_dates_is_no_wait(text: str) -> None:
    assert draft(notBefore=text).not_before == 0


@pytest.mark.parametrize(
    "value",
    [
        *("2026-01-31T12:00:00", "2026-01-31", "2026-01-31 12:00:00Z", "20260131T120000Z", "2026-W05-6T12:00:00Z"),
        *("2026-02-30T12:00:00Z", "2026-01-31T24:01:00Z", "2026-01-31T12:00:60Z", "2026-01-31T12:00:00+24:00"),
        *("0000-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "", "soon", "90s", 1769860800, True, []),
    ],
)
def test_what_is_no_date_or_too_far_ahead_is_refused(value: Any) -> None:
    with pytest.raises(Invalid) as refused:
        draft(notBefore=value)
    assert [detail.target for detail in refused.value.details] == ["notBefore"]


def test_a_date_may_be_a_year_ahead_and_no_more() -> None:
    ahead = datetime.now(UTC) + LONGEST_WAIT
    assert draft(notBefore=(ahead - timedelta(minutes=1)).isoformat()).not_before
    with pytest.raises(Invalid, match="at most 366 days"):
        draft(notBefore=(ahead + timedelta(minutes=1)).isoformat())


def test_a_wrong_delay_and_a_wrong_date_are_named_with_the_other_errors() -> None:
    with pytest.raises(Invalid) as refused:
        draft(delay="x", notBefore="y", status=7)
    assert {detail.target for detail in refused.value.details} == {"delay", "notBefore", "status"}


def test_members_of_these_names_that_a_type_declares_are_its_own() -> None:
    read = draft("#test.own", delay="long", notBefore=5)
    assert (read.delay, read.not_before, read.members) == (0, 0, {"delay": "long", "notBefore": 5})
    with pytest.raises(Invalid, match="delay"):
        draft("#test.own")


def test_a_request_with_another_delay_is_another_request() -> None:
    plain = draft().digest
    assert draft(delay=None, notBefore=None).digest == plain
    others = [draft(delay=0), draft(delay=90), draft(delay="90s"), draft(notBefore="2026-01-31T12:00:00Z")]
    digests = {plain, *(read.digest for read in others)}
    assert len(digests) == 5
    assert draft(delay=90).digest == others[1].digest


@given(st.text(alphabet="PTDHMSmshd0123456789.-+:Z ", max_size=30) | st.integers() | st.floats(allow_nan=False))
def test_any_value_is_read_within_the_bounds_or_refused(value: Any) -> None:
    for name in ("delay", "notBefore"):
        try:
            read = draft(**{name: value})
        except Invalid:
            continue
        assert 0 <= read.delay <= LONGEST
        json.dumps([read.delay, read.not_before], allow_nan=False)


def test_a_whole_number_may_be_written_with_a_point() -> None:
    result = draft(resultInfo={"code": 4.0, "subcode": -7e0}).result_info

    assert (result.code, result.subcode) == (4, -7)
    assert isinstance(result.code, int)
    with pytest.raises(Invalid, match=r"resultInfo/code"):
        draft(resultInfo={"code": 4.5})


def test_a_result_with_members_that_nobody_reads_or_that_is_refused_is_not_remembered() -> None:
    before = _known_result.cache_info().currsize
    assert draft(resultInfo={"code": 7, "other": "x" * 100_000}).result_info.code == 7
    with pytest.raises(Invalid, match=r"resultInfo/message"):
        draft(resultInfo={"code": 7, "message": "x" * 100_000})
    assert _known_result.cache_info().currsize == before


def test_a_result_is_judged_by_the_types_of_its_members_also_where_one_that_equals_it_came_before() -> None:
    for code in (1, 1.0):
        assert repr(draft(resultInfo={"code": code}).result_info.code) == "1"
    for wrong in (True, "1", [1], {"1": 1}):
        with pytest.raises(Invalid, match=r"resultInfo/code"):
            draft(resultInfo={"code": wrong})
    with pytest.raises(Invalid, match=r"resultInfo/code"):
        draft(resultInfo={"other": 1})
    assert draft(resultInfo={"code": 1, "subcode": None, "message": "m", "other": []}).result_info.message == "m"


@pytest.fixture
def built_in() -> TypeRegistry:
    return load_types(BUILT_IN_TYPES)


def test_a_client_cannot_set_a_result_member_by_its_python_name(built_in: TypeRegistry) -> None:
    body = {
        "@odata.type": "#microsoft.graph.playPromptOperation",
        "prompts": [{"mediaInfo": {"uri": "http://media/a.wav"}}],
        "completion_reason": "completedSuccessfully",
    }
    draft = read_create("call", body, built_in)
    operation: Any = draft.type.model.from_members(draft.members, None)
    assert operation.completion_reason is None


def test_a_dynamic_member_may_have_the_python_name_of_a_declared_one(built_in: TypeRegistry) -> None:
    assert read_create("call", {"client_context": 7}, built_in).members == {"client_context": 7}


def test_a_call_id_holds_no_control_character() -> None:
    with pytest.raises(Invalid):
        check_call_id("a\x85b")


@pytest.mark.parametrize("name", [".", ".."])
def test_a_name_that_clients_take_out_of_a_path_is_refused(built_in: TypeRegistry, name: str) -> None:
    with pytest.raises(Invalid):
        check_call_id(name)
    with pytest.raises(Invalid):
        read_create("call", {"id": name}, built_in)


def test_members_may_nest_as_deep_as_the_limit_and_no_deeper() -> None:
    deepest = json.loads("[" * DEPTH_LIMIT + "]" * DEPTH_LIMIT)
    assert draft(extra=deepest).members == {"extra": deepest}
    with pytest.raises(Invalid, match=f"nested at most {DEPTH_LIMIT} deep"):
        draft(extra=[deepest])
