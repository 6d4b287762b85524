"""What an outcome means: the change that ends an attempt, from what its handler's process said or how it died."""

import signal

from tracker import lifecycle
from tracker.lifecycle import Change
from tracker.model import LOST, Json, Record, ResultInfo


def by_handler(record: Record, outcome: Json) -> Change:
    """The handler had its say before anybody stopped it, or in spite of it."""
    result, members = ResultInfo(**outcome["result"]), outcome["members"]
    match outcome["outcome"]:
        case "succeeded":
            return lifecycle.succeed(record, result, members)
        case "rejected":
            return lifecycle.reject(record, result, members)
        case _:
            return lifecycle.fail(record, result, members, after=outcome["after"])


def by_failure(record: Record, outcome: Json) -> Change:
    """The handler raised, or its process died (somebody else's SIGTERM counts as that), unasked."""
    match outcome["outcome"]:
        case "raised":
            return lifecycle.fail(record, ResultInfo(**outcome["result"]), outcome.get("members", {}))
        case "died":
            return lifecycle.fail(record, _death(outcome["signal"]), {})
        case _:
            return lifecycle.fail(record, _death(-signal.SIGTERM), {})


def _death(code: int) -> ResultInfo:
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended by itself with exit code {code}"
    return LOST.model_copy(update={"message": f"The handler's process {how}."})


def for_the_log(outcome: Json) -> Json:
    """What of an outcome operators want to see: a traceback, a signal."""
    return {name: outcome[name] for name in ("traceback", "signal") if name in outcome}
