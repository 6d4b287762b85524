"""schemathesis against the tracker: valid and invalid requests from the OpenAPI description, alone and in sequences."""

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from conformance.conftest import REQUESTS, SAID, SEED
from tests.support.dev_stack import TOKEN, Client, Dev, running_dev

SETTINGS = Path(__file__).with_name("schemathesis.toml")
SCHEMATHESIS = (str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(SETTINGS), "run")
FIRST, LATER = "examples,coverage,fuzzing,stateful", "fuzzing,stateful"
"""The phases of the first run and of later runs. Examples and coverage do not depend on the seed, so they run once."""
A_ROUND = 2_000
"""About how many requests one run of schemathesis makes. The next run has the next seed."""
A_CASE = 3
"""About how many requests to each path one example makes."""


@pytest.fixture
def fresh_dev(tmp_path: Path) -> Iterator[Dev]:
    """Another `tracker dev`, because thousands of random operations would disturb the other tests.

    schemathesis sends many wrong tokens, and expects 401 for each of them.
    """
    with running_dev(tmp_path / "data", "--workers", "1", TRACKER_WRONG_TOKENS="1000000") as started:
        yield started


@pytest.mark.timeout(1800)
def test_no_request_made_from_the_description_finds_a_fault(
    fresh_dev: Dev, pytestconfig: pytest.Config, tmp_path: Path
) -> None:
    wanted, seed = pytestconfig.stash[REQUESTS], pytestconfig.stash[SEED]
    answers, waived, begun = Counter[str](), Counter[str](), monotonic()
    _, description = Client(fresh_dev.url)("GET", "/openapi.json")
    paths = len(description["paths"])
    while (left := wanted - answers.total()) > 0:
        phases = LATER if answers else FIRST
        run = _run(
            fresh_dev.url, seed, phases, examples=min(left, A_ROUND) // (A_CASE * paths) + 1, tally=tmp_path / "tally"
        )
        assert run.returncode == 0, f"--seed {seed}\n{run.stdout}\n{run.stderr}"
        tally = json.loads((tmp_path / "tally").read_text())
        answers.update(tally["answers"])
        waived.update(tally["waived"])
        seed += 1
    by_status = ", ".join(f"{count} × {status}" for status, count in sorted(answers.items()))
    seeds = f"seeds {pytestconfig.stash[SEED]} to {seed - 1}"
    said = [f"schemathesis: {answers.total():,} requests in {monotonic() - begun:.0f} s, {seeds}: {by_status}"]
    said += [f"  waived {count} times: {reason}" for reason, count in waived.most_common()]
    pytestconfig.stash[SAID].extend(said)


def _run(url: str, seed: int, phases: str, examples: int, tally: Path) -> subprocess.CompletedProcess[str]:
    words = (f"{url}/openapi.json", "--phases", phases, "--seed", str(seed), "--max-examples", str(examples))
    environment = {**os.environ, "CONFORMANCE_TALLY": str(tally), "TRACKER_DEV_TOKEN": TOKEN, "NO_COLOR": "1"}
    print(" ".join(words))
    return subprocess.run([*SCHEMATHESIS, *words], env=environment, capture_output=True, text=True, check=False)
