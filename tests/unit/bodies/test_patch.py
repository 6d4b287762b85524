"""Bodies of patches: what they may change."""

from typing import Any

import pytest
from pydantic import Field

from tests.support.records import make_record
from tracker import Operation
from tracker.api.serializers import resource
from tracker.bodies.members import DEPTH_LIMIT, MEMBERS_LIMIT
from tracker.bodies.patch import read_patch
from tracker.domain.operation import DONE, Json
from tracker.domain.record import Record
from tracker.domain.type_registry import OperationType
from tracker.errors import Invalid


class Own(Operation, type="#test.own"):
    source: str
    preset: str | None = None
    delay: int = 0
    answer: str | None = Field(None, json_schema_extra={"readOnly": True})


KIND = OperationType(Own.odata_type, Own, None)


def stored(**fields: Any) -> Record:
    members = {"source": "a", "delay": 0, "extra": {"deep": [1]}, **fields.pop("members", {})}
    return make_record(type="#test.own", members=members, client_context="mine", created=1, changed=1, **fields)


def patch(record: Record, /, kind: OperationType | None = KIND, **body: Any) -> Json:
    return read_patch(body, record, kind)


def refused(record: Record, body: Json, *, kind: OperationType | None = KIND, strict: bool = False) -> set[str | None]:
    with pytest.raises(Invalid) as error:
        read_patch(body, record, kind, strict=strict)
    return {detail.target for detail in error.value.details}


def test_the_client_context_and_dynamic_members_change() -> None:
    changed = patch(stored(), clientContext="new", extra=5, more=[None])
    assert changed == {
        "client_context": "new",
        "members": {"source": "a", "delay": 0, "extra": 5, "more": [None]},
    }


def test_null_removes() -> None:
    changed = patch(stored(), clientContext=None, extra=None, never=None)
    assert changed == {"client_context": None, "members": {"source": "a", "delay": 0}}


def test_what_is_not_named_stays() -> None:
    assert patch(stored(), extra=5) == {"members": {"source": "a", "delay": 0, "extra": 5}}
    assert patch(stored(), clientContext="new") == {"client_context": "new"}


@pytest.mark.parametrize("body", [{}, {"clientContext": "mine"}, {"extra": {"deep": [1]}}, {"never": None}], ids=str)
def test_what_is_stored_already_changes_nothing(body: Json) -> None:
    assert patch(stored(), **body) == {}


def test_true_is_not_the_number_one() -> None:
    assert patch(stored(members={"extra": 1}), extra=True)["members"]["extra"] is True


def test_an_operation_patched_back_as_it_was_fetched_changes_nothing() -> None:
    record = stored(results={"answer": "x"}, members={"answer": "x"}, result_info=DONE, percent=5, detail="half")
    fetched = resource(record, context="http://x/$metadata#communications/$entity")
    assert patch(record, **fetched) == {}
    record = stored(members={"preset": None})
    assert patch(record, **resource(record)) == {}


def test_results_that_came_meanwhile_do_not_hurt_who_patches_back_what_was_there_before() -> None:
    before = resource(stored())
    now = stored(results={"answer": "x"}, members={"answer": "x"}, result_info=DONE)
    assert patch(now, **{**before, "answer": None, "extra": 5})["members"] == {"source": "a", "delay": 0, "extra": 5}


def test_a_member_of_the_type_is_refused_unless_it_is_as_stored() -> None:
    assert refused(stored(), {"source": "b", "preset": "p", "delay": 5, "extra": 1}) == {"source", "preset", "delay"}
    assert patch(stored(), source="a", preset=None, delay=0) == {}


@pytest.mark.parametrize(
    ("before", "sent", "same"),
    [
        ([{"at": "2026-01-31T12:00:00Z"}], [{"at": "2026-01-31T12:00:00+00:00"}], True),
        ([{"at": "2026-01-31T12:00:00Z"}], [{"at": "2026-01-31T12:00:00+00:00"}, {}], False),
        ({"at": "2026-01-31T12:00:00Z"}, {"on": "2026-01-31T12:00:00+00:00"}, False),
        ("2026-01-31T12:00:00.250Z", "2026-01-31T12:00:00.250000+00:00", True),
        ("2026-01-31", "2026-01-31T00:00:00", True),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:01+00:00", False),
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00", False),
        ("2026-01-31T12:00:00Z", "noon", False),
        ("2026-01-31T12:00:00Z", 5, False),
    ],
)
def test_a_time_of_the_type_may_come_back_in_another_form(before: Any, sent: Any, *, same: bool) -> None:
    """As from Microsoft's client library, which reads every text that looks like a time as one, and writes its own."""
    record = stored(members={"source": before})
    if same:
        assert patch(record, source=sent) == {}
    else:
        assert refused(record, {"source": sent}) == {"source"}


def test_a_type_that_is_not_registered_owns_nothing() -> None:
    assert patch(stored(), None, source="b")["members"]["source"] == "b"
    assert refused(stored(), {"delay": 5, "notBefore": "2026-01-31T12:00:00Z"}, kind=None) == {"delay", "notBefore"}


def test_when_it_may_start_is_said_at_create() -> None:
    assert refused(stored(), {"notBefore": "2026-01-31T12:00:00Z"}) == {"notBefore"}


@pytest.mark.parametrize(
    "name", ["id", "status", "resultInfo", "createdDateTime", "answer", "@odata.etag", "x@odata.type", "@odata.context"]
)
def test_what_only_the_service_writes_is_ignored_unless_asked_otherwise(name: str) -> None:
    body: Json = {name: {"code": 1} if name == "resultInfo" else "x"}
    assert read_patch(body, stored(), KIND) == {}
    assert refused(stored(), body, strict=True) == {name}


def test_strict_takes_what_names_the_operation() -> None:
    record = stored()
    assert read_patch({"id": record.id, "@odata.type": "#test.own"}, record, KIND, strict=True) == {}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", 7),
        ("id", 7),
        ("resultInfo", "x"),
        ("clientContext", 7),
        ("clientContext", "c" * 257),
        ("createdDateTime", 7),
        ("percentComplete", "7"),
        ("attempt", True),
    ],
)
def test_a_wrong_json_type_is_refused_always(name: str, value: Any) -> None:
    assert refused(stored(), {name: value}) == {name}


def test_all_members_together_have_a_size() -> None:
    record = stored(members={"large": "x" * (MEMBERS_LIMIT - 100)})
    assert refused(record, {"more": "y" * 100}) == {""}
    assert patch(record, large=None, more="y" * 100)["members"]["more"]
    deep: Any = 0
    for _ in range(DEPTH_LIMIT + 1):
        deep = [deep]
    assert refused(record, {"more": deep}) == {""}
    results = stored(members={"large": "x" * (MEMBERS_LIMIT - 100), "answer": "z" * 100}, results={"answer": "z" * 100})
    assert patch(results, more=1), "what the handler set takes none of the client's room"
