"""Bodies that would cost much: what is read of them, and what the error says."""

from typing import Any

import pytest

from tracker import durations, json_codec
from tracker.bodies import start_time
from tracker.bodies.create import read_create
from tracker.bodies.field_errors import LONGEST_TARGET, MOST_NAMED, FieldErrors
from tracker.domain.operation import Operation
from tracker.domain.type_registry import OperationType, TypeRegistry
from tracker.errors import ConfigurationError, Invalid


@pytest.fixture
def patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every pattern of durations and times fail the test when it is used."""

    class Unused:
        pattern = "x"

        def fullmatch(self, text: str) -> None:
            raise AssertionError(f"{len(text)} characters are matched")

        findall = fullmatch

    for module, name in ((durations, "_PART"), (durations, "_RATE")):
        monkeypatch.setattr(module, name, Unused())
    for name in ("_DURATION", "_DATE_TIME"):
        monkeypatch.setattr(start_time, name, Unused())


@pytest.mark.parametrize("text", ["1h" * 500_000, "9" * 1_000_000, "PT" + "1" * 100_000 + "S", "1.5s" * 100])
def test_a_long_duration_is_refused_before_it_is_read(patterns: None, text: str) -> None:
    errors = FieldErrors()
    assert start_time.read_delay(text, errors) == 0
    assert errors.details[0].target == "delay"
    with pytest.raises(ConfigurationError) as refused:
        durations.seconds(text)
    assert len(str(refused.value)) < 200
    with pytest.raises(ConfigurationError) as refused:
        durations.rate(f"10/{text}")
    assert len(str(refused.value)) < 200
    assert patterns is None


def test_a_long_date_time_is_refused_before_it_is_read(patterns: None) -> None:
    errors = FieldErrors()
    assert start_time.read_not_before("2026-01-31T12:00:00." + "1" * 100_000 + "Z", errors) == 0
    assert errors.details[0].target == "notBefore"
    assert patterns is None


def test_an_error_names_a_hundred_members_and_says_how_many_more_there_are() -> None:
    errors = FieldErrors()
    for number in range(MOST_NAMED + 25):
        errors.add(f"m{number}", "is wrong")
    with pytest.raises(Invalid) as refused:
        errors.raise_any()
    assert len(refused.value.details) == MOST_NAMED + 1
    assert refused.value.details[-1].message == "25 more errors are not named here"


def test_a_body_of_a_hundred_thousand_wrong_members_has_a_short_error() -> None:
    body: dict[str, Any] = {f"{number}@x": 0 for number in range(100_000)}
    body["y" * 500_000 + "@"] = 0
    with pytest.raises(Invalid) as refused:
        read_create("call", body, registry_of(Operation), strict=True)
    assert len(refused.value.details) == MOST_NAMED + 1
    errors = FieldErrors()
    errors.add("y" * 500_000, "is wrong")
    assert len(errors.details[0].target or "") == LONGEST_TARGET


def test_members_that_are_too_large_are_neither_counted_in_depth_nor_validated(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the members are looked at")

    monkeypatch.setattr(json_codec, "depth", refuse)
    monkeypatch.setattr(OperationType, "validate", refuse)
    with pytest.raises(Invalid, match="at most 65536 bytes"):
        read_create("call", {"list": [[]] * 30_000}, registry_of(Operation))


def registry_of(model: type[Operation]) -> TypeRegistry:
    registry = TypeRegistry()
    registry.add(OperationType("#microsoft.graph.commsOperation", model, None))
    return registry
