"""Progress, retries and results with values that no stored record can hold."""

import math
import os
from typing import Any

import pytest
from pydantic import Field

from tests.support.records import make_record
from tests.support.stock_attempts import record_after_attempt
from tracker import Operation, ResultInfo, Retry
from tracker.config import Settings
from tracker.domain.operation import RAISED
from tracker.domain.policy import Policy
from tracker.domain.transitions import Stage
from tracker.domain.type_registry import OperationType, TypeRegistry
from tracker.log import configure
from tracker.store.store import Store
from workers.fork_server import ForkServer
from workers.handler_outcome import outcome_of_return, with_members
from workers.outcome import Raised

BAD_NAME = b"caf\xe9.wav"
"""A file name that is not UTF-8."""


class Named(Operation, type="#test.named"):
    pass


class Unlucky(Operation, type="#test.unlucky"):
    pass


class Measure(Operation, type="#test.measure"):
    value: float | None = Field(None, json_schema_extra={"readOnly": True})


class Unchecked(Operation, type="#test.unchecked"):
    pass


async def named(_operation: Named, context: Any) -> None:
    await context.progress(50, os.fsdecode(BAD_NAME))


async def unlucky(_operation: Unlucky, _context: Any) -> None:
    raise Retry(os.fsdecode(BAD_NAME))


def measure(operation: Measure, _context: Any) -> None:
    operation.value = math.nan


async def unchecked(_operation: Unchecked, _context: Any) -> ResultInfo:
    return ResultInfo.model_construct(code=[200])  # type: ignore[arg-type]  # the mistake under test


@pytest.fixture
def types() -> TypeRegistry:
    types = TypeRegistry()
    for model, handler in ((Named, named), (Unlucky, unlucky), (Measure, measure), (Unchecked, unchecked)):
        types.add(OperationType(model.odata_type, model, handler))
    return types


@pytest.fixture
def fork_server(types: TypeRegistry) -> ForkServer:
    return ForkServer.fork(types)


def test_a_result_member_that_is_not_json_is_the_handlers_failure(types: TypeRegistry) -> None:
    operation = Measure()
    operation.value = math.nan
    outcome = with_members(types["test.measure"], operation, outcome_of_return(None))
    assert isinstance(outcome, Raised), "the API would answer the bare word NaN"


@pytest.mark.parametrize(
    ("kind", "stage"), [("named", Stage.COMPLETED), ("unlucky", Stage.DELAYED), ("measure", Stage.FAILED)]
)
async def test_what_no_record_can_hold_does_not_cost_the_outcome(
    store: Store, types: TypeRegistry, fork_server: ForkServer, settings: Settings, kind: str, stage: Stage
) -> None:
    """A file name that is no UTF-8, or a number that is none."""
    attempts = 1 if stage is Stage.FAILED else 2
    record, _ = await store.create(make_record(type=f"#test.{kind}", policy=Policy(attempts=attempts)))
    after = await record_after_attempt(store, types, fork_server, settings, record)
    assert after.stage is stage
    if stage is Stage.COMPLETED:
        assert after.detail == "caf?.wav"


async def test_a_result_that_was_made_without_validation_fails_the_operation_and_is_logged(
    store: Store,
    types: TypeRegistry,
    fork_server: ForkServer,
    settings: Settings,
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(Settings(log_format="json"))
    record, _ = await store.create(make_record(type="#test.unchecked", policy=Policy(attempts=9)))
    after = await record_after_attempt(store, types, fork_server, settings, record)
    assert (after.stage, after.attempt, after.charged) == (Stage.FAILED, 1, 1)
    assert after.result_info == RAISED
    assert capsys.readouterr().err.count("outcome_unusable") == 1
