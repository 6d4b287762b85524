"""PATCH over real HTTP and a real server, also while a handler runs."""

import asyncio
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.support.api_client import AN_HOUR, COLLECTION, Api, open_api
from tests.support.handler_files import began, let_go
from tests.support.records import claim, make_record
from tests.support.waiting import LONGEST_WAIT, eventually
from tests.support.worker_processes import running_worker
from tracker.config import Settings
from tracker.domain import lifecycle
from tracker.domain.operation import DONE, Json
from tracker.errors import Refused
from tracker.maintenance.verifier import Verifier
from tracker.store.store import Store


async def patch(api: Api, operation: Json, headers: dict[str, str] | None = None, **body: object) -> Json:
    answer = await api.request("PATCH", f"{COLLECTION}/{operation['id']}", json=body, headers=headers)
    assert answer.status == 200
    assert answer.json == (await api.get(f"{COLLECTION}/{operation['id']}")).json
    return answer.json


async def create(api: Api, kind: str, **body: object) -> Json:
    return await api.created(COLLECTION, **{"@odata.type": kind, **body})


async def with_context(api: Api, context: str) -> list[str]:
    answer = await api.get(f"{COLLECTION}?$filter=clientContext%20eq%20'{context}'&$count=true")
    assert answer.json["@odata.count"] == len(answer.json["value"])
    return [operation["id"] for operation in answer.json["value"]]


async def test_a_patch_answers_the_operation_as_it_now_is(api: Api) -> None:
    first = await api.post(json={"clientContext": "old", "extra": 1})
    answer = await api.request(
        "PATCH", f"{COLLECTION}/{first.json['id']}", json={"clientContext": "new", "extra": None, "more": {"a": []}}
    )
    assert answer.status == 200
    assert (answer.json["clientContext"], answer.json["more"], "extra" in answer.json) == ("new", {"a": []}, False)
    assert answer.headers["ETag"] != first.headers["ETag"]
    assert answer.headers["Retry-After"] == "1"
    assert answer.json["lastActionDateTime"] > first.json["lastActionDateTime"]


async def test_a_patch_that_changes_nothing_leaves_the_etag(api: Api) -> None:
    first = await api.post(json={"clientContext": "x", "extra": 1})
    answer = await api.request("PATCH", first.headers["Location"], json=first.json)
    assert (answer.status, answer.json, answer.headers["ETag"]) == (200, first.json, first.headers["ETag"])


async def test_lists_follow_the_client_context(api: Api, store: Store, settings: Settings, redis: Redis) -> None:
    operation = await api.created(clientContext="old")
    for old, new in (("old", "new"), ("new", ""), ("", None), (None, "old")):
        assert (await patch(api, operation, clientContext=new))["clientContext"] == new
        if old is not None:
            assert await with_context(api, old) == []
        if new is not None:
            assert await with_context(api, new) == [operation["id"]]
        assert not (await Verifier(store, settings).verify()).faults
    await api.delete(f"{COLLECTION}/{operation['id']}")
    assert await with_context(api, "old") == []
    assert [key async for key in redis.scan_iter("*:context:*")] == []


async def test_what_has_ended_can_be_patched_and_what_is_deleted_cannot(api: Api, store: Store) -> None:
    operation = await api.created()
    record = await claim(store, await store.find("test", operation["id"]))
    await store.apply(lifecycle.succeed(record, DONE, {}))
    ended = await patch(api, operation, note="seen")
    assert (ended["status"], ended["note"]) == ("Completed", "seen")
    before = (await api.get(f"{COLLECTION}/{operation['id']}")).json["expirationDateTime"]
    assert (await patch(api, operation, note="again"))["expirationDateTime"] == before
    await api.delete(f"{COLLECTION}/{operation['id']}")
    answer = await api.request("PATCH", f"{COLLECTION}/{operation['id']}", json={"note": "x"})
    assert (answer.status, answer.error["code"]) == (410, "gone")


async def test_there_is_no_upsert(api: Api) -> None:
    for path in (f"{COLLECTION}/missing", f"/communications/calls/other/operations/{(await api.created())['id']}"):
        answer = await api.request("PATCH", path, json={"note": "x"})
        assert (answer.status, answer.error["code"]) == (404, "notFound")
    assert len((await api.get(COLLECTION)).json["value"]) == 1


async def test_another_tenants_operation_cannot_be_patched(api: Api) -> None:
    operation = await api.created()
    answer = await api.request("PATCH", f"{COLLECTION}/{operation['id']}", json={"note": "x"}, token="other-token")
    assert answer.status == 404


async def test_every_member_that_cannot_be_changed_is_named(api: Api) -> None:
    prompt = {"@odata.type": "#microsoft.graph.mediaPrompt", "mediaInfo": {"uri": "a.wav"}}
    operation = await create(api, "#microsoft.graph.playPromptOperation", prompts=[prompt])
    answer = await api.request(
        "PATCH", f"{COLLECTION}/{operation['id']}", json={"prompts": [], "clientContext": 7, "note": "x"}
    )
    assert (answer.status, answer.error["code"]) == (400, "badRequest")
    assert {detail["target"] for detail in answer.error["details"]} == {"prompts", "clientContext"}
    assert "note" not in (await api.get(f"{COLLECTION}/{operation['id']}")).json
    assert (await patch(api, operation, **{**operation, "note": "x"}))["note"] == "x"


async def test_if_match_guards_a_patch(api: Api) -> None:
    first = await api.post(json={})
    path, etag = first.headers["Location"], first.headers["ETag"]
    for form in ("{}", "strong", '"other", {}', "*"):
        sent = etag.removeprefix("W/") if form == "strong" else form.format(etag)
        answer = await api.request("PATCH", path, json={"note": form}, headers={"If-Match": sent})
        assert (answer.status, answer.headers["ETag"] != etag) == (200, True)
        etag = answer.headers["ETag"]
    for sent in (first.headers["ETag"], 'W/"999"', ""):
        stale = await api.request("PATCH", path, json={"note": "stale"}, headers={"If-Match": sent})
        assert (stale.status, stale.error["code"], stale.error["target"]) == (412, "preconditionFailed", "If-Match")
    refused = await api.request("PATCH", path, json={"note": "y"}, headers={"If-None-Match": etag})
    assert (refused.status, refused.error["target"]) == (412, "If-None-Match")


async def test_patches_at_once_are_all_kept(api: Api) -> None:
    operation = await api.created()
    path = f"{COLLECTION}/{operation['id']}"
    answers = await asyncio.gather(*(api.request("PATCH", path, json={f"m{n}": n}) for n in range(10)))
    assert {answer.status for answer in answers} == {200}
    now = (await api.get(path)).json
    assert [now[f"m{n}"] for n in range(10)] == list(range(10))


async def test_of_two_patches_with_one_etag_the_second_is_refused(api: Api) -> None:
    first = await api.post(json={})
    path, guard = first.headers["Location"], {"If-Match": first.headers["ETag"]}
    answers = await asyncio.gather(*(api.request("PATCH", path, json={"n": n}, headers=guard) for n in range(5)))
    assert sorted(answer.status for answer in answers) == [200, 412, 412, 412, 412]


async def test_a_patch_based_on_an_old_version_of_the_record_is_refused(store: Store) -> None:
    record, _ = await store.create(make_record(members={"a": 1}))
    await store.apply(lifecycle.patch(record, {"members": {"a": 2}}))
    with pytest.raises(Refused):
        await store.apply(lifecycle.patch(record, {"members": {"a": 3}}))
    assert (await store.find("test", record.id)).members == {"a": 2}


@pytest.mark.parametrize("ending", ["succeed", "reject", "cancel"])
async def test_an_outcome_decided_on_the_record_of_its_claim_keeps_a_patch(api: Api, store: Store, ending: str) -> None:
    operation = await api.created(clientContext="old", extra=1)
    seen = await claim(store, await store.find("test", operation["id"]))
    await patch(api, operation, clientContext="new", extra=2, more=True)
    results = {"answer": "x"}
    match ending:
        case "succeed":
            await store.apply(lifecycle.succeed(seen, DONE, results))
        case "reject":
            await store.apply(lifecycle.reject(seen, DONE, results))
        case _:
            await store.apply(lifecycle.cancel(seen, members=results))
    ended = (await api.get(f"{COLLECTION}/{operation['id']}")).json
    assert (ended["clientContext"], ended["extra"], ended["more"], ended["answer"]) == ("new", 2, True, "x")
    patched = await patch(api, operation, extra=3, answer="of the client's")
    assert (patched["extra"], patched["more"], patched["answer"]) == (3, True, "x"), "results are the handler's"


@pytest.mark.parametrize("kind", ["waits", "works"], ids=["coroutine", "function"])
async def test_a_patch_while_the_handler_runs_is_kept(
    settings: Settings, store: Store, directory: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("TRACKER_TYPES", "tests.support.file_controlled_types")
    async with open_api(settings, types=("tests.support.file_controlled_types",)) as api, running_worker(directory):
        operation = await create(api, f"#executor.{kind}", clientContext="old", extra=1)
        record = await store.find("test", operation["id"])
        await began(directory, record)
        running = await patch(api, operation, clientContext="new", extra=2, more=True)
        assert running["status"] == "Running"
        let_go(directory, record)

        async def ended() -> Json | None:
            now = (await api.get(f"{COLLECTION}/{operation['id']}")).json
            return now if now["status"] == "Completed" else None

        now = await eventually(ended)
        assert (now["clientContext"], now["extra"], now["more"]) == ("new", 2, True)
        assert now["answer"] == "of attempt 1"
        assert await with_context(api, "new") == [operation["id"]]


@pytest.mark.usefixtures("waits_of_an_hour")
async def test_a_held_request_is_answered_with_the_patch(api: Api) -> None:
    first = await api.post(json={"clientContext": "old"})
    path, known = first.headers["Location"], {"If-None-Match": first.headers["ETag"]}
    async with asyncio.timeout(LONGEST_WAIT), asyncio.TaskGroup() as group:
        waiting = group.create_task(api.get(path, headers={**known, "Prefer": f"wait={AN_HOUR}"}))
        patched = await api.request("PATCH", path, json={"clientContext": "new", "note": {"a": 1}})
    assert (waiting.result().status, waiting.result().json) == (200, patched.json)
    assert waiting.result().headers["ETag"] == patched.headers["ETag"]


async def test_a_record_without_results_is_no_larger_than_before(store: Store) -> None:
    record, _ = await store.create(make_record(members={"a": 1}))
    await store.apply(lifecycle.succeed(await claim(store, record), DONE, {}))
    assert not await store.redis.hexists(store.keys.operation(record.key), "results")
