"""The operations of the stored data, and how each gets into its stage."""

import signal
import time

from tests.upgrade.asking import Json
from tests.upgrade.old_tracker import Old

SPOOLED = ("spooled", "spooled-function", "spooled-rejected", "spooled-retry")
"""Operations whose outcome is in the spool when the worker is killed."""
STAGES = {
    "queued": (
        "queue-high",
        "queue-default",
        "queue-low",
        "queue-patched",
        "queue-no-id",
        "queue-named",
        "queue-other",
    ),
    "parked": ("park-serial", "park-serial-next", "park-cap", "park-rate", "park-start", "park-type", "park-nobody"),
    "delayed": ("delay", "delay-far", "delay-backoff", "delay-url"),
    "running": (
        *("run", "run-function", "run-function-too", "run-last", "run-cancel", "run-deleted", "run-handed", "run-lost"),
        *("run-serial", "run-capped", "run-patched", *SPOOLED),
    ),
}
"""The stage of operations when everything is killed. All other operations have ended."""
REPEATABLE = {
    "Repeatability-Request-ID": "request-1",
    "Repeatability-First-Sent": "Mon, 01 Jan 2024 00:00:00 GMT",
}
"""The name of a request. The API compares the date with the clock of its machine: the date must be past, and not
longer ago than TRACKER_IDEMPOTENCY, which is ten years here.
"""


def is_final(operation: Json) -> bool:
    return operation["status"] in {"Completed", "Failed"}


def runs(operation: Json) -> bool:
    return bool(operation["status"] == "Running")


def has_begun(operation: Json) -> bool:
    """Whether the handler of the current attempt has reported progress."""
    return runs(operation) and ("statusDetail" in operation or "percentComplete" in operation)


def make_interrupted(old: Old) -> None:
    """Operations that ran when their worker was killed, and when the next worker was stopped."""
    lost = old.create("run-lost", "#stored.wait", clientContext="lost")
    last = old.create("failed-lost", "#stored.waitLast", note={"deep": [1, {"er": None}]})
    for path in (lost, last):
        old.until(path, has_begun)
    old.restart_worker(signal.SIGKILL)
    old.until(last, is_final)
    old.until(lost, lambda operation: operation["attempt"] == 2 and has_begun(operation))
    handed = old.create("run-handed", "#stored.wait", clientContext="handed")
    old.until(handed, has_begun)
    old.restart_worker(signal.SIGTERM)
    old.until(handed, lambda operation: operation["attempt"] == 2 and has_begun(operation))
    old.until(lost, lambda operation: operation["attempt"] == 3 and has_begun(operation))


def make_ended(old: Old) -> None:
    """Operations that completed, and operations that failed for each reason."""
    comms, prompt = "#microsoft.graph.commsOperation", "#microsoft.graph.playPromptOperation"
    given = {"@odata.type": "microsoft.graph.ResultInfo", "code": 4, "subcode": 7, "message": "Message value"}
    welcome = [{"@odata.type": "#microsoft.graph.mediaPrompt", "mediaInfo": {"uri": "welcome.wav"}}]
    paths = [
        old.create("done", comms, clientContext="Ünïcode ☎", resultInfo=given, note="kept"),
        old.create("done-no-id", comms, own_id=False),
        old.create("done-reverse", "#stored.reverse", text="abc", clientContext="a"),
        old.create("done-function", "#stored.reverseInFunction", text="abcd", clientContext="a"),
        old.create("done-url", "#stored.remote", text="abcde", clientContext="b"),
        old.create("done-prompt", prompt, prompts=welcome),
        old.create("done-rated", "#stored.rated", text="x", call="blocked"),
        old.create("done-rated-soon", "#stored.ratedSoon", text="x", call="blocked"),
        old.create("done-rated-later", "#stored.ratedLater", text="x", call="blocked"),
        old.create("done-again", "#stored.end", how="raised once"),
        old.create("failed-rejected", "#stored.end", how="rejected"),
        old.create("failed-raised", "#stored.end", how="raised"),
        old.create("failed-short", "#stored.short"),
        old.create("failed-prompt", prompt, prompts=[{"mediaInfo": {"uri": "no-such-file.wav"}}]),
        old.create("done-key", comms, own_id=False, headers={"Idempotency-Key": "key-of-done"}),
        old.create("done-operation-id", comms, own_id=False, headers={"Operation-Id": "operation-id-1"}),
    ]
    for path in paths:
        old.until(path, is_final)
    old.until(old.create("failed-start", "#stored.ratedSoon", text="x", call="blocked"), is_final)
    old.change("PATCH", paths[0], {"clientContext": "patched", "note": None, "other": {"is": "new"}})
    for name, given_id in (("done-other", "done-other"), ("done-of-other", "done")):  # both tenants have a `done`
        old.until(old.create(name, comms, tenant="other", id=given_id), is_final, tenant="other")
    for number in range(5):
        old.until(old.create(f"job-{number}", comms, call="ogc"), is_final)


def make_canceled(old: Old) -> None:
    """Operations that were canceled or deleted, while they ran, while they waited, and afterwards."""
    welcome = [{"mediaInfo": {"uri": "welcome.wav"}}]
    prompt = "#microsoft.graph.playPromptOperation"
    canceled = old.create("canceled", "#stored.wait", clientContext="b")
    looped = old.create("canceled-prompt", prompt, prompts=welcome, loop=True)
    waited = old.create("canceled-waiting", "#stored.reverse", delay="1d")
    for path in (canceled, looped):
        old.until(path, runs)
    old.until(canceled, has_begun)
    for path in (canceled, looped, waited):
        old.change("POST", f"{path}/cancel", {"reason": "enough"} if path == canceled else None)
        old.until(path, is_final)
    ended = old.create("deleted", "#stored.reverse", headers={"Idempotency-Key": "key-of-deleted"})
    old.until(ended, is_final)
    for path in (ended, old.create("deleted-waiting", "#stored.reverse", delay="1d")):
        old.change("DELETE", path)


def make_running(old: Old) -> None:
    """Operations that run. Three are plain functions, which is as many as the worker runs at once."""
    paths = [
        old.create("run", "#stored.wait", clientContext="a", some="member"),
        old.create("run-function", "#stored.waitFunction"),
        old.create("run-last", "#stored.waitLast", clientContext="a"),
        old.create("run-cancel", "#stored.ignoreCancel", clientContext="a"),
        old.create("run-deleted", "#stored.ignoreCancel"),
        old.create("run-patched", "#stored.wait", note="first", other=1),
        old.create("spooled", "#stored.wait", clientContext="spool"),
        old.create("spooled-rejected", "#stored.wait", then="reject", clientContext="spool"),
        old.create("spooled-retry", "#stored.wait", then="retry", clientContext="spool"),
        old.create("spooled-function", "#stored.waitFunction", clientContext="spool"),
        old.create("run-function-too", "#stored.waitFunction"),
    ]
    for path in paths:
        old.until(path, has_begun)
    for name, kind in (("run-serial", "#stored.serial"), ("run-capped", "#stored.capped")):
        old.until(old.create(name, kind, call="blocked"), runs)
    old.change("PATCH", paths[5], {"note": {"is": "patched"}, "other": None, "clientContext": "patched"})
    old.change("POST", f"{paths[3]}/cancel", {"reason": "not needed"})
    old.change("DELETE", paths[4])
    old.until(paths[3], lambda operation: operation.get("statusDetail") == "asked to stop")


def make_waiting(old: Old, more_types: str) -> None:
    """Operations that wait for each reason. Plain functions wait in their queues for a free process."""
    old.create("park-serial", "#stored.serial", call="blocked")
    old.create("park-serial-next", "#stored.serial", call="blocked")
    old.create("park-cap", "#stored.capped", call="blocked")
    old.create("park-rate", "#stored.rated", call="blocked", text="rate")
    old.create("park-start", "#stored.ratedLater", call="blocked", text="start")
    old.create("park-type", "#stored.lacking", call="blocked", url=more_types)
    old.create("park-nobody", "#stored.nobody", call="blocked", some="member")
    soon = old.create("failed-type", "#stored.lackingSoon", call="blocked", url=more_types)
    old.until(soon, is_final)
    old.create("delay", "#stored.reverse", text="delay", delay="2h", clientContext="a")
    far = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 300 * 86400))
    old.create("delay-far", "#stored.reverse", text="far", notBefore=far)
    old.create("delay-url", "#stored.remote", text="far away", delay="PT2H")
    backoff = old.create("delay-backoff", "#stored.end", how="tomorrow")
    old.until(backoff, lambda operation: operation["status"] == "Running" and operation["attempt"] == 1)
    old.create("queue-high", "#stored.reverseHigh", text="high", clientContext="queue")
    old.create("queue-low", "#stored.reverseLow", text="low", clientContext="queue")
    old.create("queue-default", "#stored.reverseInFunction", text="default", clientContext="queue")
    patched = old.create("queue-patched", "#stored.reverseInFunction", text="patched", note="first")
    old.change("PATCH", patched, {"note": [1, 2.5, "drei"], "clientContext": "queue"})
    old.create("queue-no-id", "#stored.reverseInFunction", own_id=False, text="no id")
    old.create("queue-named", "#stored.reverseInFunction", own_id=False, headers=REPEATABLE, text="named")
    old.create("queue-other", "#stored.reverseInFunction", tenant="other", text="other")


def make_all(old: Old, *, more_types: str) -> None:
    """Make all operations. `more_types` is the URL of an API that has `stored_types_lacking`."""
    make_ended(old)
    make_canceled(old)
    make_interrupted(old)
    make_running(old)
    make_waiting(old, more_types)
