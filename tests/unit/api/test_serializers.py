"""Operations as JSON."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.records import make_record
from tracker.api.serializers import monitor, resource, timestamp
from tracker.domain.operation import CANCELED, DONE, SECOND, OperationStatus, ResultInfo
from tracker.domain.transitions import Stage
from tracker.json_codec import encode

NOON = 1_769_860_800 * SECOND


@pytest.mark.parametrize(
    ("stamp", "text"),
    [
        (NOON, "2026-01-31T12:00:00Z"),
        (NOON + 250_000, "2026-01-31T12:00:00.25Z"),
        (NOON + 1, "2026-01-31T12:00:00.000001Z"),
        (NOON + 600 * SECOND, "2026-01-31T12:10:00Z"),
    ],
)
def test_a_stamp_is_written_with_the_digits_it_has(stamp: int, text: str) -> None:
    assert timestamp(stamp) == text


@given(st.integers(min_value=0, max_value=4_000_000_000 * SECOND))
def test_every_stamp_reads_back_as_itself(stamp: int) -> None:
    moment = datetime.fromisoformat(timestamp(stamp))
    seconds, micros = divmod(stamp, SECOND)
    assert moment == datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)


def test_a_new_operation_has_no_member_that_is_not_set_yet() -> None:
    record = make_record(id="a", created=NOON, changed=NOON)
    assert resource(record, context="ctx") == {
        "@odata.context": "ctx",
        "@odata.type": "#microsoft.graph.commsOperation",
        "id": "a",
        "status": "NotStarted",
        "clientContext": None,
        "resultInfo": None,
        "createdDateTime": "2026-01-31T12:00:00Z",
        "lastActionDateTime": "2026-01-31T12:00:00Z",
        "attempt": 0,
    }


def test_a_finished_operation_shows_all_it_has() -> None:
    record = make_record(
        id="a",
        type="#contoso.hash",
        client_context="é",
        status=OperationStatus.COMPLETED,
        stage=Stage.COMPLETED,
        result_info=DONE,
        created=NOON,
        started=NOON + 1 * SECOND,
        completed=NOON + 2 * SECOND,
        changed=NOON + 3 * SECOND,
        expires=NOON + 4 * SECOND,
        cancel_requested=NOON + 5 * SECOND,
        percent=40,
        detail="hashing",
        attempt=2,
        members={"path": "x", "deep": [{"a": None}]},
    )
    assert resource(record) == {
        "@odata.type": "#contoso.hash",
        "id": "a",
        "status": "Completed",
        "clientContext": "é",
        "resultInfo": {
            "@odata.type": "#microsoft.graph.resultInfo",
            "code": 200,
            "subcode": 0,
            "message": "Action completed successfully.",
        },
        "createdDateTime": "2026-01-31T12:00:00Z",
        "startedDateTime": "2026-01-31T12:00:01Z",
        "completedDateTime": "2026-01-31T12:00:02Z",
        "lastActionDateTime": "2026-01-31T12:00:03Z",
        "expirationDateTime": "2026-01-31T12:00:04Z",
        "percentComplete": 100,
        "statusDetail": "hashing",
        "attempt": 2,
        "cancelRequestedDateTime": "2026-01-31T12:00:05Z",
        "path": "x",
        "deep": [{"a": None}],
    }


def test_a_progress_of_zero_is_shown() -> None:
    assert resource(make_record(status=OperationStatus.RUNNING, percent=0))["percentComplete"] == 0


def test_a_member_never_hides_what_the_service_says() -> None:
    record = make_record(id="a", members={"id": "b", "status": "Completed", "@odata.type": "#x.y"})
    shown = resource(record)
    assert (shown["id"], shown["status"], shown["@odata.type"]) == ("a", "NotStarted", record.type)


def test_text_that_is_no_unicode_never_breaks_an_answer() -> None:
    text = encode(resource(make_record(detail="name \udcff.wav"))).decode()
    assert json.loads(text)["statusDetail"] == "name ?.wav"


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (OperationStatus.NOT_STARTED, "NotStarted"),
        (OperationStatus.RUNNING, "Running"),
        (OperationStatus.COMPLETED, "Succeeded"),
        (OperationStatus.FAILED, "Failed"),
    ],
)
def test_the_monitor_speaks_azures_words(status: OperationStatus, word: str) -> None:
    shown = monitor(make_record(id="a", status=status, created=NOON, changed=NOON), resource_location="there")
    assert shown["status"] == word
    assert shown["resourceLocation"] == "there"
    assert ("error" in shown) == (status is OperationStatus.FAILED)
    assert set(shown) - {"error", "percentComplete"} == {
        *("id", "status", "createdDateTime", "lastActionDateTime", "resourceLocation")
    }


def test_a_canceled_operation_is_canceled_for_the_monitor_whatever_its_code() -> None:
    for result in (CANCELED, ResultInfo(code=400, subcode=8508, message="The operation was canceled.")):
        record = make_record(status=OperationStatus.FAILED, canceled=True, result_info=result)
        shown = monitor(record, resource_location="there")
        assert shown["status"] == "Canceled"
        assert shown["error"] == {"code": "canceled", "message": "The operation was canceled."}


@pytest.mark.parametrize(
    ("code", "word"),
    [
        (400, "badRequest"),
        (408, "requestTimeout"),
        (413, "payloadTooLarge"),
        (500, "internalServerError"),
        (503, "serviceUnavailable"),
        (7, "7"),
    ],
)
def test_the_monitors_error_names_the_class_of_the_result(code: int, word: str) -> None:
    record = make_record(status=OperationStatus.FAILED, result_info=ResultInfo(code=code, message="why"))
    assert monitor(record, resource_location="there")["error"] == {"code": word, "message": "why"}
