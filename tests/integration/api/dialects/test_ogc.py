"""The dialect of OGC API – Processes over real HTTP."""

from typing import Any

import pytest

from tests.support.api_client import Answer, Api, open_api
from tests.support.records import claim
from tracker.config import Settings, load
from tracker.domain import lifecycle
from tracker.domain.operation import DONE, Json, ResultInfo
from tracker.errors import ConfigurationError
from tracker.store.store import Store

EXCEPTIONS = "http://www.opengis.net/def/exceptions/ogcapi-processes-1/1.0/"
PLAY = "microsoft.graph.playPromptOperation"
EXECUTION = f"/ogc/processes/{PLAY}/execution"
PROMPTS = [{"mediaInfo": {"uri": "welcome.wav"}}]


def problem(answer: Answer, *, errors: bool = False) -> str:
    """The type of an exception, after checking that it has the form of RFC 7807."""
    body = answer.json if answer.headers["Content-Type"] == "application/json" else json_of(answer)
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert body["status"] == answer.status
    assert {"type", "title", "detail"} <= body.keys()
    assert ("errors" in body) is errors
    return str(body["type"]).removeprefix(EXCEPTIONS)


def json_of(answer: Answer) -> Json:
    return Answer(answer.status, {"Content-Type": "application/json"}, answer.body).json


async def executed(api: Api, **inputs: Any) -> Json:
    answer = await api.post(EXECUTION, json={"inputs": {"prompts": PROMPTS, **inputs}})
    assert answer.status == 201
    assert answer.headers["Location"] == f"{api.url}/ogc/jobs/{answer.json['jobID']}"
    return answer.json


async def ended(api: Api, store: Store, result: ResultInfo, **members: Any) -> str:
    """The path of a job that ended with a result."""
    record = await claim(store, await store.find("test", (await executed(api))["jobID"]))
    end = lifecycle.succeed if result.code < 300 else lifecycle.reject
    await store.apply(end(record, result, members))
    return f"/ogc/jobs/{record.id}"


async def test_a_job_is_accepted_runs_and_succeeds(api: Api, store: Store) -> None:
    job = await executed(api)
    assert (job["status"], job["processID"], job["type"]) == ("accepted", PLAY, "process")
    assert {"started", "finished", "progress"}.isdisjoint(job)

    record = await claim(store, await store.find("test", job["jobID"]))
    record = await store.apply(lifecycle.progress(record, 40, "half way"))
    job = (await api.get(f"/ogc/jobs/{record.id}")).json
    assert (job["status"], job["progress"], job["message"]) == ("running", 40, "half way")

    await store.apply(lifecycle.succeed(record, DONE, {"completionReason": "completedSuccessfully"}))
    job = (await api.get(f"/ogc/jobs/{record.id}")).json
    assert (job["status"], job["progress"], job["message"]) == ("successful", 100, DONE.message)
    assert job["created"] < job["started"] < job["finished"]
    results = await api.get(job["links"][-1]["href"])
    assert results.json["completionReason"] == "completedSuccessfully"
    assert results.json["resultInfo"] == {"value": {"code": 200, "subcode": 0, "message": DONE.message}}


async def test_a_job_has_no_results_before_its_end(api: Api) -> None:
    answer = await api.get(f"/ogc/jobs/{(await executed(api))['jobID']}/results")
    assert (answer.status, problem(answer)) == (404, "result-not-ready")


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [(400, 400, "InvalidParameterValue"), (429, 400, "InvalidParameterValue"), (503, 424, "NoApplicableCode")],
)
async def test_a_failed_jobs_results_say_whose_doing_it_was(
    api: Api, store: Store, code: int, status: int, kind: str
) -> None:
    path = await ended(api, store, ResultInfo(code=code, subcode=7, message="No."))
    answer = await api.get(f"{path}/results")
    assert (answer.status, problem(answer)) == (status, kind)
    assert (json_of(answer)["code"], json_of(answer)["subcode"], json_of(answer)["detail"]) == (code, 7, "No.")
    job = (await api.get(path)).json
    assert (job["status"], job["links"][-1]["rel"].rpartition("/")[2]) == ("failed", "exceptions")


async def test_a_canceled_job_is_dismissed_and_has_no_results(api: Api) -> None:
    job = await executed(api)
    await api.post(f"/communications/calls/ogc/operations/{job['jobID']}/cancel")
    assert (await api.get(f"/ogc/jobs/{job['jobID']}")).json["status"] == "dismissed"
    answer = await api.get(f"/ogc/jobs/{job['jobID']}/results")
    assert (answer.status, problem(answer)) == (410, "about:blank")


async def test_a_dismissed_job_is_gone(api: Api, store: Store) -> None:
    for path in (f"/ogc/jobs/{(await executed(api))['jobID']}", await ended(api, store, DONE)):
        answer = await api.delete(path)
        assert (answer.status, answer.json["status"]) == (200, "dismissed")
        for method, again in (("GET", path), ("DELETE", path), ("GET", f"{path}/results")):
            assert (await api.request(method, again)).status == 410


async def test_the_jobs_of_this_dialect_are_listed_by_pages(api: Api) -> None:
    made = [(await executed(api))["jobID"] for _ in range(5)]
    await api.created()
    seen, path = [], "/ogc/jobs?limit=2"
    while path:
        page = (await api.get(path)).json
        seen += [job["jobID"] for job in page["jobs"]]
        path = next((link["href"] for link in page["links"] if link["rel"] == "next"), "")
    assert seen == made[::-1]
    assert (await api.get("/ogc/jobs", token="other-token")).json["jobs"] == []


async def test_any_operation_is_a_job(api: Api) -> None:
    made = await api.created()
    assert (await api.get(f"/ogc/jobs/{made['id']}")).json["processID"] == "microsoft.graph.commsOperation"
    assert problem(await api.get(f"/ogc/jobs/{made['id']}", token="other-token")) == "no-such-job"


async def test_an_operation_of_a_type_that_is_not_known_here_has_its_results(settings: Settings, store: Store) -> None:
    async with open_api(settings, unknown_types="accept") as api:
        body: Json = {"@odata.type": "#contoso.unknown", "answer": 42}
        made = await api.created(**body)
        record = await claim(store, await store.find("test", made["id"]))
        await store.apply(lifecycle.succeed(record, DONE, {}))
        assert (await api.get(f"/ogc/jobs/{made['id']}/results")).json.keys() == {"resultInfo"}


@pytest.mark.parametrize("prompts", [{"value": PROMPTS}, {"value": PROMPTS, "mediaType": "application/json"}, PROMPTS])
async def test_an_input_may_be_qualified(api: Api, prompts: Any) -> None:
    job = await executed(api, prompts=prompts, extra={"value": {"deep": 1}}, plain={"a": 1, "value": 2})
    made = (await api.get(f"/communications/calls/ogc/operations/{job['jobID']}")).json
    assert (made["prompts"], made["extra"], made["plain"]) == (PROMPTS, {"deep": 1}, {"a": 1, "value": 2})


async def test_an_execution_is_of_the_process_that_its_path_names(api: Api) -> None:
    job = await executed(api, **{"@odata.type": "#microsoft.graph.commsOperation"})
    assert job["processID"] == PLAY


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"inputs": {"prompts": {"href": "https://example.org/prompts"}}}, 501),
        ({"inputs": {"prompts": PROMPTS}, "outputs": {"completionReason": {}}}, 501),
        ({"inputs": {"prompts": PROMPTS}, "outputs": None}, 400),
        ({"inputs": {"prompts": PROMPTS}, "outputs": []}, 400),
        ({"inputs": {"prompts": PROMPTS}, "subscriber": {"successUri": "https://example.org"}}, 501),
        ({"inputs": {"prompts": PROMPTS}, "response": "raw"}, 501),
        ({"inputs": {"prompts": PROMPTS}, "response": "other"}, 400),
        ({"inputs": PROMPTS}, 400),
        ({"input": {}}, 400),
        ({"inputs": {"prompts": PROMPTS}, "response": "document", "outputs": {}, "subscriber": None}, 201),
    ],
)
async def test_what_the_standard_has_and_we_do_not_is_refused(api: Api, body: Json, status: int) -> None:
    answer = await api.post(EXECUTION, json=body)
    assert answer.status == status
    if status != 201:
        assert problem(answer) == "about:blank"


async def test_a_wrong_input_is_named(api: Api) -> None:
    answer = await api.post(EXECUTION, json={"inputs": {"prompts": [], "loop": "yes"}})
    assert (answer.status, problem(answer, errors=True)) == (400, "about:blank")
    assert {item["target"] for item in json_of(answer)["errors"]} == {"prompts", "loop"}


async def test_a_preference_is_named_as_applied_when_it_was_asked_for(api: Api) -> None:
    for prefer, applied in (("respond-async, wait=5", "respond-async"), ("respond-sync", None)):
        answer = await api.post(EXECUTION, json={"inputs": {"prompts": PROMPTS}}, headers={"Prefer": prefer})
        assert (answer.status, answer.headers.get("Preference-Applied")) == (201, applied)


async def test_processes_are_found_in_any_case_and_limited(api: Api) -> None:
    assert (await api.get(f"/ogc/processes/{PLAY.upper()}")).json["id"] == PLAY
    assert len((await api.get("/ogc/processes?limit=1")).json["processes"]) == 1
    assert len((await api.get("/ogc/processes")).json["processes"]) >= 2


@pytest.mark.parametrize(
    ("method", "path", "status", "kind"),
    [
        ("GET", "/ogc/jobs/none", 404, "no-such-job"),
        ("GET", "/ogc/jobs/none/results", 404, "no-such-job"),
        ("DELETE", "/ogc/jobs/none", 404, "no-such-job"),
        ("GET", "/ogc/processes/none", 404, "no-such-process"),
        ("GET", "/ogc/elsewhere", 404, "about:blank"),
        ("PUT", "/ogc/jobs/none", 405, "about:blank"),
        ("GET", EXECUTION, 405, "about:blank"),
        ("GET", "/ogc/jobs?status=failed", 501, "about:blank"),
        ("GET", "/ogc/jobs?limit=0", 400, "about:blank"),
        ("GET", "/ogc/jobs?cursor=x", 400, "about:blank"),
        ("GET", "/ogc/?f=json", 400, "about:blank"),
    ],
)
async def test_errors_have_the_standards_form(api: Api, method: str, path: str, status: int, kind: str) -> None:
    answer = await api.request(method, path)
    assert (answer.status, problem(answer)) == (status, kind)


@pytest.mark.parametrize("path", ["/ogc", "/ogc/", "/ogc/conformance", "/ogc/processes", "/ogc/jobs", "/ogc/nothing"])
async def test_everything_needs_a_token_but_what_is_not_there(api: Api, path: str) -> None:
    answer = await api.get(path, token="wrong")
    assert (answer.status, problem(answer)) == (404 if path == "/ogc/nothing" else 401, "about:blank")


async def test_links_lead_to_where_clients_see_the_api(settings: Settings) -> None:
    async with open_api(settings, public_url="https://example.org/tracker") as api:
        links = (await api.get("/ogc/")).json["links"]
        assert all(link["href"].startswith("https://example.org/tracker/") for link in links)


async def test_only_the_dialects_that_settings_name_are_spoken(settings: Settings) -> None:
    async with open_api(settings, dialects=("google",)) as api:
        assert (await api.get("/google/operations/x")).json["error"]["status"] == "NOT_FOUND"
        assert (await api.get("/ogc/jobs")).error["code"] == "notFound"
        paths = (await api.get("/openapi.json", token=None)).json["paths"]
        assert any(path.startswith("/google/") for path in paths)
        assert not any(path.startswith("/ogc/") for path in paths)


@pytest.mark.parametrize(("text", "spoken"), [("", ()), ("ogc", ("ogc",)), ("google, ogc", ("google", "ogc"))])
def test_the_setting_is_a_list(settings: Settings, monkeypatch: pytest.MonkeyPatch, text: str, spoken: Any) -> None:
    assert settings.dialects == ("google", "ogc")
    monkeypatch.setenv("TRACKER_DIALECTS", text)
    assert load().dialects == spoken


def test_a_dialect_that_nobody_speaks_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKER_DIALECTS", "google,soap")
    with pytest.raises(ConfigurationError, match=r"TRACKER_DIALECTS.*soap"):
        load()


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/ogc/jobs/x", "DELETE,GET,HEAD,OPTIONS"),
        (EXECUTION, "OPTIONS,POST"),
        ("/google/operations/x", "DELETE,GET,HEAD,OPTIONS"),
        ("/google/operations/x:cancel", "OPTIONS,POST"),
    ],
)
async def test_a_path_tells_its_methods_to_who_may_use_them(api: Api, path: str, methods: str) -> None:
    answer = await api.request("OPTIONS", path)
    assert (answer.status, answer.body, answer.headers["Allow"]) == (204, b"", methods)
    assert (await api.request("PATCH", path)).headers["Allow"] == methods
    assert (await api.request("OPTIONS", path, token=None)).status == 401
