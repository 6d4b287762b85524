"""What schemathesis loads: our checks and waivers, and a tally of all that was asked and answered."""

import atexit
import json
import os
import re
from collections import Counter
from email.utils import formatdate
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case

import conformance.promises  # noqa: F401 - registers the checks
from conformance.waivers import ONCE, waiver_for

TALLY = "CONFORMANCE_TALLY"
"""The variable that names the file of the tally."""

answers: Counter[str] = Counter()
waived: Counter[str] = Counter()


@schemathesis.hook
def map_headers(_: Any, headers: dict[str, Any] | None) -> dict[str, Any] | None:
    """Make good requests likely: one name for a create, and every second time an `If-Match` that holds.

    Drawn at random, three names at once refuse nearly every create, and an ETag nearly every change.
    """
    if not headers:
        return headers
    names = sorted(ONCE & headers.keys())
    drawn = sum(len(str(value)) for value in headers.values())
    kept = {name: value for name, value in headers.items() if name not in ONCE}
    if names:
        name = names[drawn % len(names)]
        kept[name] = headers[name]
        if name.startswith("Repeatability-"):
            kept = kept | {"Repeatability-Request-ID": str(drawn), "Repeatability-First-Sent": formatdate(usegmt=True)}
    if "If-Match" in kept and drawn % 2:
        kept["If-Match"] = "*"
    return kept


@schemathesis.hook
def before_call(_: Any, case: Case, __: dict[str, Any]) -> None:
    """Hold no answer longer than a second: that a wait is long enough is seen elsewhere, and here it costs a minute."""
    if case.headers and "Prefer" in case.headers:
        case.headers["Prefer"] = re.sub(r"wait=\d+", "wait=1", str(case.headers["Prefer"]))
    if case.path.endswith(":wait") and isinstance(case.body, dict):
        timeout = case.body.get("timeout", "1s")
        if timeout is None or re.fullmatch(r"[0-9.]+s", str(timeout)):
            case.body["timeout"] = "1s"


@schemathesis.hook
def after_call(_: Any, __: Case, response: Response) -> None:
    """Count an answer by its status."""
    answers[str(response.status_code)] += 1


@schemathesis.hook
def filter_failure(_: Any, failure: Failure, case: Case, response: Response) -> bool:
    """Whether it is a failure; one with a waiver is counted by the reason."""
    waiver = waiver_for(failure, case, response)
    if waiver is not None:
        waived[waiver.reason] += 1
    return waiver is None


@atexit.register
def write_tally() -> None:
    """Leave what was counted where the test that started us finds it."""
    if name := os.environ.get(TALLY):
        Path(name).write_text(json.dumps({"answers": answers, "waived": waived}))
