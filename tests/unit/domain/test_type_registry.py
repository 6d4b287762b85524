"""Declaring and loading operation types."""

import math
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from pydantic import ConfigDict, Field, field_validator, model_validator

from tracker import Context, Operation, Rejected, Retry, handles
from tracker.domain.type_modules import load_types
from tracker.domain.type_registry import OperationType
from tracker.errors import ConfigurationError, Invalid

HEAD = "from tracker import Context, Operation, handles\n"
CLASS = 'class T(Operation, type="#wrong.t"):\n    pass\n'


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A module `wrong` that a test writes."""
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path / "wrong.py"
    sys.modules.pop("wrong", None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import nope_mod\n", "wrong does not load: ModuleNotFoundError.*wrong.py, line 1"),
        ("def f(:\n", "wrong does not load: SyntaxError"),
        (f'{HEAD}{CLASS}@handles(T, run_within="10 minutes")\ndef f(a, b): ...\n', "wrong: '10 minutes'.*line 4"),
        (f"{HEAD}{CLASS}@handles(T)\ndef f(a): ...\n", r"wrong: #wrong.t: a handler takes \(operation, context\)"),
        (f"{HEAD}{CLASS}", "wrong declares no operation type with a handler"),
        (f'{HEAD}class T(Operation, type="#wrong.t"):\n    status: str\n', "wrong: #wrong.t: status is a member of"),
        (f'{HEAD}class T(Operation, type="wrong.t"): ...\n', "wrong: T: 'wrong.t' is not of the form"),
        (f"{HEAD}class T(Operation): ...\n", "wrong: T needs a type"),
    ],
)
def test_a_module_that_cannot_work_is_refused_with_its_name_and_the_place(module: Path, text: str, told: str) -> None:
    module.write_text(text)
    with pytest.raises(ConfigurationError, match=told):
        load_types(["wrong"])


def test_a_module_may_hand_on_the_types_of_another(module: Path) -> None:
    (module.parent / "wrong.py").write_text("from workers.handlers.acknowledge import acknowledge\n")
    assert "#microsoft.graph.commsOperation" in load_types(["wrong"])


def test_two_classes_cannot_share_a_name() -> None:
    class First(Operation, type="#test.shared"):
        pass

    class Second(Operation, type="#TEST.Shared"):
        pass

    async def handler(operation: Operation, context: Context) -> None: ...

    handles(First)(handler)
    with pytest.raises(ConfigurationError, match="two classes claim"):
        handles(Second)(handler)


class Open(Operation, type="#test.open"):
    """Declares nothing: any members will do."""


class Closed(Operation, type="#test.closed"):
    model_config = ConfigDict(extra="forbid")


class Judged(Operation, type="#test.judged"):
    @model_validator(mode="before")
    @classmethod
    def _odd(cls, value: object) -> object:
        raise ValueError(f"never {value}")


class JudgedByField(Operation, type="#test.judgedByField"):
    @field_validator("*")
    @classmethod
    def _never(cls, value: object) -> object:
        raise ValueError(f"never {value}")

    at: int


class Initialised(Operation, type="#test.initialised"):
    def model_post_init(self, _: object) -> None:
        raise ValueError("never")


class Inherited(Judged, type="#test.inherited"):
    """Has its base's rules."""


@pytest.mark.parametrize("model", [Closed, Judged, JudgedByField, Initialised, Inherited], ids=lambda one: one.__name__)
def test_a_type_that_has_rules_is_asked_though_it_may_declare_no_members(model: type[Operation]) -> None:
    with pytest.raises(Invalid):
        OperationType(model.odata_type, model, None).validate({"at": 1})


def test_a_type_without_members_and_rules_takes_any_members() -> None:
    members = {"at": 1, "x": [None, {}]}
    assert OperationType(Open.odata_type, Open, None).validate(members) is members


class _Strict(Operation, type="#test.strict"):
    when: datetime = Field(strict=True)


def test_what_was_accepted_at_create_can_be_rebuilt_for_its_handler() -> None:
    entry = OperationType("#test.strict", _Strict, None)
    members = entry.validate({"when": "2026-01-31T12:00:00Z"})
    assert _Strict.from_members(members, None).when.year == 2026


def test_a_rejection_with_a_long_message_is_still_a_rejection() -> None:
    assert Rejected("x" * 5000).result.code == 400


@pytest.mark.parametrize("after", [math.inf, math.nan, -1.0])
def test_a_retry_after_no_real_time_is_refused_where_it_is_raised(after: float) -> None:
    with pytest.raises((ConfigurationError, ValueError)):
        Retry(after=after)
