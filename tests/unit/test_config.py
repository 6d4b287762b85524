"""Settings that cannot work are refused."""

import math

import pytest
from pydantic import ValidationError

from tracker.config import Settings


def test_an_endless_retention_is_refused() -> None:
    """The script that ends an operation could not store the time when its record expires."""
    with pytest.raises(ValidationError):
        Settings(retention=math.inf)


def test_weights_of_tenants_are_read_by_name() -> None:
    settings = Settings(tenant_weights=("a=3", "b=1", "c=d=2"))
    assert settings.weights_of_tenants == {"a": 3, "c=d": 2}
    assert Settings().weights_of_tenants == {}


@pytest.mark.parametrize("word", ["a", "a=", "=3", "a=0", "a=-1", "a=1.5", "a=1001", "a=²"])
def test_a_weight_that_cannot_work_is_refused(word: str) -> None:
    with pytest.raises(ValidationError, match=r"is not of the form tenant=weight"):
        Settings(tenant_weights=(word,))
