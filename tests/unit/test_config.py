"""Settings that cannot work are refused."""

import math

import pytest
from pydantic import ValidationError

from tracker.config import Settings


def test_an_endless_retention_is_refused() -> None:
    """The script that ends an operation could not store the time when its record expires."""
    with pytest.raises(ValidationError):
        Settings(retention=math.inf)
