"""The requests whose answers are stored, and sent again to the version that opens the data."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from tests.upgrade.asking import PUBLIC_URL, Answer, Question, ask
from tests.upgrade.old_tracker import Old, collection
from tests.upgrade.stored_operations import REPEATABLE

SHOWN_IN_EACH_DIALECT = (
    *("done", "done-no-id", "done-url", "failed-raised", "canceled", "deleted"),
    *("run-cancel", "run-deleted", "queue-high", "delay-far"),
)
QUERIES: tuple[dict[str, str], ...] = (
    {"$filter": "startswith(clientContext,'queue')"},
    {"$top": "20", "$count": "true", "$select": "id,status"},
    {"$top": "15", "$orderby": "status,lastActionDateTime desc", "$select": "id,status"},
    {"$filter": "status eq 'Running'", "$count": "true", "$select": "id,attempt,percentComplete"},
    {"$filter": "status in ('NotStarted','Failed')", "$orderby": "createdDateTime", "$select": "id,resultInfo/code"},
    {"$filter": "clientContext eq 'a'", "$select": "id"},
    {"$filter": "startswith(clientContext,'Ünï') or clientContext eq 'patched'", "$select": "id,clientContext"},
    {"$filter": "isof('stored.reverse') and status ne 'Completed'", "$select": "id"},
    {"$filter": "notBeforeDateTime ne null or cancelRequestedDateTime ne null", "$select": "id"},
    {"$filter": "resultInfo/code ge 400", "$orderby": "resultInfo/code,id desc", "$select": "id,resultInfo/code"},
    {"$search": '"half way" OR queue', "$select": "id"},
)
"""Query options for the list of a call."""


def questions(old: Old) -> Iterator[Question]:
    """All requests but those for further pages of lists."""
    yield Question(f"{collection('call 1')}/done-other")
    yield Question("/operations/nothing")
    for name, (operation_id, path, tenant) in old.created.items():
        yield Question(path, tenant)
        if name in SHOWN_IN_EACH_DIALECT:
            paths = (f"/operations/{operation_id}", f"/google/operations/{operation_id}", f"/ogc/jobs/{operation_id}")
            yield from (Question(each, tenant) for each in (*paths, f"{paths[-1]}/results"))
    for query in QUERIES:
        yield Question(f"{collection('call 1')}?{urlencode(query)}")
    for call, tenant in (("call 1", "other"), ("blocked", "dev"), ("call 2", "dev")):
        yield Question(f"{collection(call)}?{urlencode({'$select': 'id,status', '$count': 'true'})}", tenant)
        yield Question(f"{collection(call)}/$count", tenant)
    yield Question("/google/calls/blocked/operations?pageSize=7")
    yield Question("/ogc/jobs?limit=3")
    yield from repeats(old)


def repeats(old: Old) -> Iterator[Question]:
    """Creates that were sent before, and other creates under the same names."""
    path, comms = collection("call 1"), {"@odata.type": "#microsoft.graph.commsOperation"}
    named = {"@odata.type": "#stored.reverseInFunction", "text": "named"}
    deleted = {"@odata.type": "#stored.reverse", "id": "deleted"}
    for headers, body in (
        ({"Idempotency-Key": "key-of-done"}, comms),
        ({"Operation-Id": "operation-id-1"}, comms),
        (REPEATABLE, named),
        ({"Idempotency-Key": "key-of-deleted"}, deleted),
    ):
        yield Question(path, method="POST", headers=headers, body=body)
        yield Question(path, method="POST", headers=headers, body={**body, "another": True})
    yield Question(path, method="POST", body=deleted)
    yield Question(
        path, method="POST", body={"@odata.type": "#stored.reverse", "id": "done-reverse", "text": "another"}
    )
    same = {"@odata.type": "#stored.reverse", "id": "done-reverse", "text": "abc", "clientContext": "a"}
    yield Question(path, method="POST", body=same)
    etag = ask(old.url, Question(f"{path}/done-reverse")).etag
    yield Question(f"{path}/done-reverse", headers={"If-None-Match": str(etag)})


def following(question: Question, body: Any) -> Question | None:
    """The request for the next page of a list; None after the last page, and for anything else."""
    if not isinstance(body, dict):
        return None
    links = [link["href"] for link in body.get("links", ()) if link["rel"] == "next"]
    if link := body.get("@odata.nextLink") or (links or [""])[0]:
        return question._replace(path=link.removeprefix(PUBLIC_URL))
    if token := body.get("nextPageToken"):
        return question._replace(path=f"{question.path.partition('&')[0]}&{urlencode({'pageToken': token})}")
    return None


def answers(old: Old) -> list[tuple[Question, Answer]]:
    """Send all requests."""
    asked = []
    for first in questions(old):
        question: Question | None = first
        while question is not None:
            answer = ask(old.url, question)
            asked.append((question, answer))
            question = following(question, answer.body) if question.method == "GET" else None
    return asked


def settled(old: Old) -> list[tuple[Question, Answer]]:
    """The answers, when all are the same twice in a row."""
    before, after = answers(old), answers(old)
    while [answer.essence for _, answer in before] != [answer.essence for _, answer in after]:
        before, after = after, answers(old)
    return after
