"""What docs/deploying.md says of systemd units, of the proxy, and of backup and restore."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import redis

from tests.docs.pages import ROOT, Block, blocks
from tests.support.dev_stack import TRACKER, Client, environment, running_dev
from tests.support.waiting import LONGEST_WAIT
from tracker.runtime.dev_valkey import until

PAGE = ROOT / "docs" / "deploying.md"
CALL = "/v1.0/communications/calls/backup/operations"
UNIT = re.compile(r"# /etc/systemd/system/(?P<name>[\w-]+\.service)\n")


def units() -> dict[str, Block]:
    found = {block: UNIT.match(block.text) for block in blocks(PAGE)}
    return {unit["name"]: block for block, unit in found.items() if unit}


def test_the_page_has_a_unit_for_each_process() -> None:
    assert set(units()) == {"tracker-api.service", "tracker-worker.service"}


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    """With a program in place of `tracker`, which is not installed in /opt here."""
    for name, block in units().items():
        text = block.text.replace("/opt/tracker/venv/bin/tracker", sys.executable).replace("User=tracker", "User=root")
        (tmp_path / name).write_text(text)
    words = ["systemd-analyze", "verify", "--man=no", *map(str, tmp_path.iterdir())]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    ours = [line for line in done.stderr.splitlines() if "tracker-" in line]
    assert (done.returncode, ours) == (0, [])


def test_a_copy_of_the_append_only_file_holds_what_was_there(tmp_path: Path) -> None:
    """The steps of the page, with redis-py for valkey-cli."""
    with running_dev(tmp_path / "first", "--workers", "1") as dev:
        client = Client(dev.url)
        ids = [client("POST", CALL, {"id": f"done-{number}"})[1]["id"] for number in range(20)]
        ids += [client("POST", CALL, {"id": f"waits-{number}", "delay": "1h"})[1]["id"] for number in range(5)]
        assert until(
            lambda: all(client("GET", f"{CALL}/{name}")[1]["status"] == "Completed" for name in ids[:20]), LONGEST_WAIT
        )
        before = {name: client("GET", f"{CALL}/{name}") for name in ids}

        with redis.Redis.from_url(f"unix://{tmp_path / 'first' / 'valkey.sock'}") as server:
            server.config_set("auto-aof-rewrite-percentage", 0)
            assert until(lambda: not server.info("persistence")["aof_rewrite_in_progress"], LONGEST_WAIT)
            shutil.copytree(tmp_path / "first" / "appendonlydir", tmp_path / "second" / "appendonlydir")
            server.config_set("auto-aof-rewrite-percentage", 100)
        assert client("POST", CALL, {"id": "too-late"})[0] == 201

    with running_dev(tmp_path / "second", "--workers", "1") as dev:
        client = Client(dev.url)
        after = {name: client("GET", f"{CALL}/{name}") for name in ids}
        assert without_host(after) == without_host(before)
        assert client("GET", f"{CALL}/too-late")[0] == 404
        words = (*TRACKER, "doctor", "--verify", "--redis-url", f"unix://{tmp_path / 'second' / 'valkey.sock'}")
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment(dict(os.environ)))
        assert (done.returncode, "every operation is where it belongs" in done.stderr) == (0, True), done.stderr


def without_host(answers: object) -> str:
    """The answers without the port, which the second one chose anew."""
    return re.sub(r"127\.0\.0\.1:\d+", "HOST", json.dumps(answers))
