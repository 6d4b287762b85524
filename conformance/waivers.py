"""What schemathesis calls a failure and is none, each with its reason. Everything else fails `make conformance`."""

from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from schemathesis.core.failures import AcceptedNegativeData, Failure, ServerError
from schemathesis.core.transport import Response
from schemathesis.generation.case import Case
from schemathesis.openapi.checks import RejectedPositiveData, UseAfterFree

GRAMMARS: Final = ("$filter", "$orderby", "$search", "$select", "$skiptoken", "$skip", "$expand", "pageToken", "cursor")
"""Query options whose text follows a grammar that JSON Schema cannot say, or which only an earlier answer can give."""
ONCE: Final = {"Idempotency-Key", "Operation-Id", "Repeatability-Request-ID", "Repeatability-First-Sent"}
"""Headers that name a request, of which one is enough; two belong together, and a name belongs to one body."""
BATCH: Final = "/$batch"
TIMES: Final = {"delay", "notBefore"}
"""Members that are bounded by 366 days from now, which a pattern cannot say."""
ELSEWHERE: Final = ("ogcExecute", "ogcGetResults")
"""Routes whose 400 follows from what another answer says: the inputs of a process, and why a job failed."""


@dataclass(frozen=True, slots=True)
class Waiver:
    """Lets a failure of this class through when `holds`."""

    failure: type[Failure]
    holds: Callable[[Failure, Case, Response], bool]
    reason: str


def _says_unsupported(_: Failure, case: Case, response: Response) -> bool:
    return response.status_code == HTTPStatus.NOT_IMPLEMENTED and "501" in case.operation.definition.raw["responses"]


def _says_when_to_come_back(_: Failure, __: Case, response: Response) -> bool:
    retry_after = response.headers.get("retry-after", ["0"])[0]
    return response.status_code == HTTPStatus.SERVICE_UNAVAILABLE and retry_after.isdigit() and int(retry_after) >= 1


def _breaks_a_grammar(_: Failure, case: Case, response: Response) -> bool:
    """The answer names such an option, and the request had it."""
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
    """Every part of a batch has an answer of its own."""
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
    Waiver(ServerError, _says_when_to_come_back, "503 with Retry-After is the documented answer at a bound"),
    Waiver(RejectedPositiveData, _says_unsupported, "501 is the documented answer to a form that is not supported"),
    Waiver(RejectedPositiveData, _breaks_a_grammar, "the text of a query option follows a grammar, not only a schema"),
    Waiver(RejectedPositiveData, _names_a_request_wrongly, "a request has one name, and a name one request"),
    Waiver(RejectedPositiveData, _reaches_too_far, "how far a time may reach depends on what time it is"),
    Waiver(
        RejectedPositiveData,
        _is_said_elsewhere,
        "a process says what it takes, a job why it failed",
    ),
    Waiver(RejectedPositiveData, _names_a_part_wrongly, "the requests of a batch have different ids, and name others"),
    Waiver(AcceptedNegativeData, _is_refused_inside, "a wrong request of a batch is refused in its own place"),
    Waiver(RejectedPositiveData, _depends_on_state, "410 and 412 depend on what became of the operation before"),
    Waiver(UseAfterFree, _only_cancels, "DELETE of a monitor cancels, as Azure's pollers mean it, and deletes nothing"),
)


def waiver_for(failure: Failure, case: Case, response: Response) -> Waiver | None:
    """The waiver that lets this failure through, if any."""
    return next(
        (waiver for waiver in WAIVERS if isinstance(failure, waiver.failure) and waiver.holds(failure, case, response)),
        None,
    )
