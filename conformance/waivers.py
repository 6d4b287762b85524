"""Waivers: failures of schemathesis that are no defect of the tracker, each with its reason.

A failure without a waiver fails `make conformance`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from schemathesis.core.failures import AcceptedNegativeData, Failure, ServerError
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case
from schemathesis.openapi.checks import RejectedPositiveData, UseAfterFree

GRAMMARS: Final = ("$filter", "$orderby", "$search", "$select", "$skiptoken", "$skip", "$expand", "pageToken", "cursor")
"""Query options whose text has a grammar that JSON Schema cannot express, or comes from an earlier answer."""
ONCE: Final = {"Idempotency-Key", "Operation-Id", "Repeatability-Request-ID", "Repeatability-First-Sent"}
"""Headers that name a create. A request has one name, and a name belongs to one body. The two `Repeatability` headers
make one name together."""
BATCH: Final = "/$batch"
TIMES: Final = {"delay", "notBefore"}
"""Members that may reach 366 days from now at most. JSON Schema cannot express this bound."""
ELSEWHERE: Final = ("ogcExecute", "ogcGetResults")
"""Operation ids of the description whose 400 depends on another answer: a process's inputs, or a failed job's error."""


@dataclass(frozen=True, slots=True)
class Waiver:
    """Waives a failure of the class `failure` for which `holds` returns True."""

    failure: type[Failure]
    holds: Callable[[Failure, Case, Response], bool]
    reason: str


def _says_unsupported(_: Failure, case: Case, response: Response) -> bool:
    return response.status_code == HTTPStatus.NOT_IMPLEMENTED and "501" in case.operation.definition.raw["responses"]


def _says_when_to_come_back(_: Failure, __: Case, response: Response) -> bool:
    retry_after = response.headers.get("retry-after", ["0"])[0]
    return response.status_code == HTTPStatus.SERVICE_UNAVAILABLE and retry_after.isdigit() and int(retry_after) >= 1


def _breaks_a_grammar(_: Failure, case: Case, response: Response) -> bool:
    """Whether the answer names one of `GRAMMARS` that the request had."""
    return response.status_code == HTTPStatus.BAD_REQUEST and any(
        option in (case.query or {}) and option.encode() in response.content for option in GRAMMARS
    )


def _reaches_too_far(_: Failure, __: Case, response: Response) -> bool:
    if response.status_code != HTTPStatus.BAD_REQUEST:
        return False
    details: list[dict[str, str]] = response.json().get("error", {}).get("details", [])
    return bool(details) and {detail["target"] for detail in details} <= TIMES


def _names_a_request_wrongly(_: Failure, __: Case, response: Response) -> bool:
    return response.status_code == HTTPStatus.BAD_REQUEST and response.json().get("error", {}).get("target") in ONCE


def _names_a_part_wrongly(_: Failure, case: Case, response: Response) -> bool:
    if response.status_code != HTTPStatus.BAD_REQUEST or case.path != BATCH:
        return False
    target: str = response.json().get("error", {}).get("target", "")
    return target.endswith(("/id", "/dependsOn", "/depends_on"))


def _is_refused_inside(_: Failure, case: Case, response: Response) -> bool:
    """Whether a part of the batch has its own error, while the batch itself is answered with 200."""
    return case.path == BATCH and any(part["status"] >= HTTPStatus.BAD_REQUEST for part in response.json()["responses"])


def _is_said_elsewhere(_: Failure, case: Case, response: Response) -> bool:
    name = case.operation.definition.raw.get("operationId")
    return response.status_code == HTTPStatus.BAD_REQUEST and name in ELSEWHERE


def _depends_on_state(_: Failure, __: Case, response: Response) -> bool:
    return response.status_code in {HTTPStatus.GONE, HTTPStatus.PRECONDITION_FAILED}


def _only_cancels(failure: Failure, _: Case, __: Response) -> bool:
    return isinstance(failure, UseAfterFree) and failure.free.startswith("DELETE /operations/")


WAIVERS: Final = (
    Waiver(ServerError, _says_unsupported, "501 is the documented answer to a form that is not supported"),
    Waiver(ServerError, _says_when_to_come_back, "503 with Retry-After is the documented answer at a limit"),
    Waiver(RejectedPositiveData, _says_unsupported, "501 is the documented answer to a form that is not supported"),
    Waiver(RejectedPositiveData, _breaks_a_grammar, "a query option has a grammar that its schema does not contain"),
    Waiver(RejectedPositiveData, _names_a_request_wrongly, "a request has one name, and a name belongs to one request"),
    Waiver(RejectedPositiveData, _reaches_too_far, "the latest allowed time depends on the time of the request"),
    Waiver(
        RejectedPositiveData,
        _is_said_elsewhere,
        "a process lists its inputs, and a failed job answers with its own error",
    ),
    Waiver(RejectedPositiveData, _names_a_part_wrongly, "ids are unique in a batch, and dependsOn names them"),
    Waiver(
        AcceptedNegativeData,
        _is_refused_inside,
        "an invalid part of a batch has an answer of its own",
    ),
    Waiver(RejectedPositiveData, _depends_on_state, "410 and 412 depend on what earlier requests did to the operation"),
    Waiver(UseAfterFree, _only_cancels, "DELETE of a monitor cancels, as Azure's pollers expect, and deletes nothing"),
)


def waiver_for(failure: Failure, case: Case, response: Response) -> Waiver | None:
    """The first waiver for this failure, or None."""
    return next(
        (waiver for waiver in WAIVERS if isinstance(failure, waiver.failure) and waiver.holds(failure, case, response)),
        None,
    )
