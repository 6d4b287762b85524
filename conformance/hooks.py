"""Hooks of schemathesis: they load the checks, apply the waivers, and count answers and waived failures."""

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
"""The environment variable with the path of the file for the counts."""

answers: Counter[str] = Counter()
waived: Counter[str] = Counter()


@schemathesis.hook
def map_headers(_: Any, headers: dict[str, Any] | None) -> dict[str, Any] | None:
    """Keep one of the headers that name a create, and set every second `If-Match` to `*`.

    Random headers would let the API refuse nearly every request: it refuses a create with several names, and a change
    with a wrong ETag.
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
    """Reduce each wait to one second at most, because thousands of requests would take hours otherwise.

    Other tests check the length of a wait.
    """
    if case.headers and "Prefer" in case.headers:
        case.headers["Prefer"] = re.sub(r"wait=\d+", "wait=1", str(case.headers["Prefer"]))
    if case.path.endswith(":wait") and isinstance(case.body, dict):
        timeout = case.body.get("timeout", "1s")
        if timeout is None or re.fullmatch(r"[0-9.]+s", str(timeout)):
            case.body["timeout"] = "1s"


@schemathesis.hook
def after_call(_: Any, __: Case, response: Response) -> None:
    """Count the status of an answer."""
    answers[str(response.status_code)] += 1


@schemathesis.hook
def filter_failure(_: Any, failure: Failure, case: Case, response: Response) -> bool:
    """Return whether to report the failure. A failure with a waiver is not reported, and counted under its reason."""
    waiver = waiver_for(failure, case, response)
    if waiver is not None:
        waived[waiver.reason] += 1
    return waiver is None


@atexit.register
def write_tally() -> None:
    """Write the counts into the file that the test reads after this process has ended."""
    if name := os.environ.get(TALLY):
        Path(name).write_text(json.dumps({"answers": answers, "waived": waived}))
