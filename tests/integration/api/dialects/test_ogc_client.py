"""OWSLib's client of OGC API – Processes against a running `tracker dev`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from owslib.ogcapi.processes import Processes

from tests.support.dev_stack import TOKEN, Client, Dev, running_dev
from tests.support.waiting import LONGEST_WAIT
from tracker.runtime.dev_valkey import until

MEDIA = Path(__file__).parents[4] / "examples" / "media"
PLAY = "microsoft.graph.playPromptOperation"


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    directory = tmp_path_factory.mktemp("ogc") / "data"
    with running_dev(directory, "--workers", "1", TRACKER_MEDIA_DIR=str(MEDIA)) as started:
        yield started


@pytest.fixture
def processes(dev: Dev) -> Processes:
    return Processes(f"{dev.url}/ogc", headers={"Authorization": f"Bearer {TOKEN}"})


def prompt(name: str, **more: Any) -> dict[str, Any]:
    return {"prompts": [{"mediaInfo": {"uri": name}}], **more}


def test_the_landing_page_leads_everywhere(dev: Dev, processes: Processes) -> None:
    ask = Client(dev.url)
    assert len(processes.links) == 5
    for place in ("/ogc", *(link["href"].removeprefix(dev.url) for link in processes.links)):
        assert ask("GET", place)[0] == 200
    assert any(name.endswith("/conf/core") for name in processes.conformance()["conformsTo"])


def test_every_type_is_a_process_that_says_what_it_takes(processes: Processes) -> None:
    assert {item["id"] for item in processes.processes()} >= {PLAY, "microsoft.graph.commsOperation"}
    described = processes.process(PLAY)
    assert {name: item["minOccurs"] for name, item in described["inputs"].items()} == {
        "clientContext": 0,
        "prompts": 1,
        "loop": 0,
    }
    assert described["outputs"].keys() == {"completionReason", "resultInfo"}


def test_a_process_is_executed_to_its_results(dev: Dev, processes: Processes) -> None:
    ask = Client(dev.url)
    job = processes.execute(PLAY, inputs=prompt("welcome.wav", clientContext="mine"), async_=True)
    place = processes.response_headers["Location"].removeprefix(dev.url)
    assert processes.response_headers["Preference-Applied"] == "respond-async"
    assert ask("GET", f"{place}/results")[1]["type"].endswith("/result-not-ready")

    assert until(lambda: ask("GET", place)[1]["status"] == "successful", LONGEST_WAIT)
    assert ask("GET", place)[1]["progress"] == 100
    status, outcome = ask("GET", f"{place}/results")
    assert (status, outcome["completionReason"]) == (200, "completedSuccessfully")
    assert outcome["resultInfo"]["value"]["code"] == 200
    assert ask("GET", "/ogc/jobs?limit=1")[1]["jobs"][0]["jobID"] == job["jobID"]
    assert ask("GET", f"/communications/calls/ogc/operations/{job['jobID']}")[1]["clientContext"] == "mine"


def test_a_process_that_fails_says_why_in_place_of_results(dev: Dev, processes: Processes) -> None:
    ask = Client(dev.url)
    place = f"/ogc/jobs/{processes.execute(PLAY, inputs=prompt('nothing.wav'))['jobID']}"
    assert until(lambda: ask("GET", place)[1]["status"] == "failed", LONGEST_WAIT)
    status, told = ask("GET", f"{place}/results")
    assert (status, told["type"], told["code"], told["subcode"]) == (400, "InvalidParameterValue", 400, 1103)


def test_what_cannot_be_executed_is_refused(processes: Processes) -> None:
    with pytest.raises(RuntimeError, match="prompts"):
        processes.execute(PLAY, inputs={})
    with pytest.raises(RuntimeError, match="no-such-process"):
        processes.execute("nothing", inputs={})
    with pytest.raises(RuntimeError, match="outputs"):
        processes.execute(PLAY, inputs=prompt("welcome.wav"), outputs={"completionReason": {}})


def test_a_running_job_is_dismissed(dev: Dev, processes: Processes) -> None:
    ask = Client(dev.url)
    place = f"/ogc/jobs/{processes.execute(PLAY, inputs=prompt('welcome.wav', loop=True))['jobID']}"
    assert until(lambda: ask("GET", place)[1]["status"] == "running", LONGEST_WAIT)
    status, told = ask("DELETE", place)
    assert (status, told["status"]) == (200, "dismissed")
    assert ask("GET", place)[0] == 410
    assert ask("DELETE", place)[0] == 410
