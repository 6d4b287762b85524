"""OWSLib against the tracker: OGC API – Processes."""

from time import monotonic, sleep
from typing import Any

import pytest
from owslib.ogcapi.processes import Processes

from tests.support.dev_stack import TOKEN, Dev

TIMED = "conformance.timedOperation"
PATIENCE = 20
"""The longest time in seconds until a job ends. A job of these tests takes less than one second."""
ENDED = {"successful", "failed", "dismissed"}


class Service(Processes):
    """OWSLib's client, with the requests for jobs that OWSLib has no methods for."""

    def status(self, job: str) -> dict[str, Any]:
        return self._request(path=f"jobs/{job}")

    def results(self, job: str) -> dict[str, Any]:
        return self._request(path=f"jobs/{job}/results")

    def dismiss(self, job: str) -> dict[str, Any]:
        return self._request(method="DELETE", path=f"jobs/{job}")

    def until_it_ends(self, job: str) -> dict[str, Any]:
        """Poll the status until the job has ended."""
        deadline = monotonic() + PATIENCE
        while (status := self.status(job))["status"] not in ENDED:
            assert monotonic() < deadline, status
            sleep(0.05)
        return status


@pytest.fixture
def service(dev: Dev) -> Service:
    return Service(f"{dev.url}/ogc/", headers={"Authorization": f"Bearer {TOKEN}", "Accept": "application/json"})


def test_the_service_says_what_it_conforms_to(service: Service) -> None:
    classes = {name.rpartition("/")[2] for name in service.conformance()["conformsTo"]}

    assert {"core", "json", "dismiss"} <= classes
    assert any(link["rel"].endswith("processes") for link in service.links)


def test_an_operation_type_is_a_process(service: Service) -> None:
    assert TIMED in [process["id"] for process in service.processes()]

    process = service.process(TIMED)

    assert "async-execute" in process["jobControlOptions"]
    assert process["inputs"]["seconds"]["schema"]["type"] == "number"


def test_a_job_is_followed_to_its_results(service: Service) -> None:
    job = service.execute(TIMED, {"seconds": 0.4}, async_=True)["jobID"]

    assert service.response_headers["Location"] == f"{service.url}jobs/{job}"
    assert service.status(job)["status"] in {"accepted", "running", "successful"}
    ended = service.until_it_ends(job)
    assert (ended["status"], ended["progress"], ended["processID"]) == ("successful", 100, TIMED)
    assert service.results(job)["resultInfo"]["value"]["message"] == "Time has passed."


def test_a_failed_job_says_why(service: Service) -> None:
    job = service.execute(TIMED, {"fails": "The tape is blank."}, async_=True)["jobID"]

    ended = service.until_it_ends(job)

    assert (ended["status"], ended["message"]) == ("failed", "The tape is blank.")
    with pytest.raises(RuntimeError, match="The tape is blank"):
        service.results(job)


def test_a_job_is_dismissed(service: Service) -> None:
    job = service.execute(TIMED, {"seconds": 60}, async_=True)["jobID"]

    assert service.dismiss(job)["status"] == "dismissed"

    with pytest.raises(RuntimeError, match="410"):
        service.status(job)


def test_what_is_wrong_is_told(service: Service) -> None:
    with pytest.raises(RuntimeError, match="no-such-process"):
        service.process("nobody.knows")
    with pytest.raises(RuntimeError, match="no-such-job"):
        service.status("nobody-made-this")
    with pytest.raises(RuntimeError, match="seconds"):
        service.execute(TIMED, {"seconds": "many"}, async_=True)
