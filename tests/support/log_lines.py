"""The lines of this process's log, as JSON. The test calls `tracker.log.configure` first."""

import json
from typing import Any

import pytest


def lines_of(capsys: pytest.CaptureFixture[str], event: str) -> list[dict[str, Any]]:
    """The lines with this event since the last call."""
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{")]
    return [line for line in told if line["event"] == event]
