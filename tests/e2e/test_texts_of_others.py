"""Texts that clients and handlers chose, through a whole `tracker dev`: its log, and the commands of `tracker`."""

import json
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.support.dev_stack import TOKEN, TRACKER, Client, Dev, environment, running_dev
from tests.support.hostile_texts import HOSTILE, OBEYED
from tests.support.waiting import LONGEST_WAIT
from tracker.runtime.dev_valkey import until

TEXTS = {name: text for name, text in HOSTILE.items() if name != "lone surrogates"}
"""JSON cannot hold lone surrogates, and the API refuses their escapes."""
TYPES = ("careless", "carelessFunction", "telling")
LINE = re.compile(r"(?:(?:valkey|api   |worker) \| )?(?:    |\d\d:\d\d:\d\d\.\d{6} \[|\d+:[A-Z] |ready http)")
"""How each line of the output of `tracker dev` begins: a child's name, and a line of its log or a line set off."""


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    options = ("--workers", "1", "--types", "tests.support.hostile_types")
    with running_dev(tmp_path_factory.mktemp("dev") / "data", *options, TRACKER_LOG_FORMAT="human") as started:
        yield started


def tracker(dev: Dev, *words: str) -> subprocess.CompletedProcess[str]:
    changes = {"TRACKER_URL": dev.url, "TRACKER_TOKEN": TOKEN, "REDIS_URL": f"unix://{dev.data_dir}/valkey.sock"}
    changes |= {"TRACKER_TYPES": "tests.support.hostile_types"}
    return subprocess.run(
        (*TRACKER, *words), capture_output=True, text=True, timeout=LONGEST_WAIT, check=False, env=environment(changes)
    )


def test_nothing_that_they_wrote_is_obeyed_or_taken_for_ours(dev: Dev) -> None:
    send = Client(dev.url)
    collection = "/communications/calls/hostile/operations"
    ids = []
    for text in TEXTS.values():
        for kind in TYPES:
            body = {"@odata.type": f"#hostile.{kind}", "text": text, "clientContext": text}
            status, operation = send("POST", collection, body)
            assert status == 201
            ids.append(operation["id"])
    status, waiting = send("POST", collection, {"delay": "1h", "clientContext": TEXTS["colours"]})
    assert status == 201
    send("POST", f"{collection}/{waiting['id']}/cancel", {"reason": TEXTS["a line of a log"]})
    assert until(
        lambda: all(send("GET", f"{collection}/{id_}")[1]["status"] in {"Completed", "Failed"} for id_ in ids),
        LONGEST_WAIT,
    )

    for words in (
        ("list", "hostile", "--top", "200"),
        *(("get", "hostile", id_) for id_ in ids[:3]),
        ("wait", "hostile", ids[2]),
        ("why", ids[0], "--tenant", "dev"),
        ("why", waiting["id"], "--tenant", "dev"),
        ("doctor",),
        ("doctor", "--verify"),
    ):
        for form in ("table", "json"):
            ended = tracker(dev, *words, "--output", form)
            assert ended.returncode in {0, 1}, (words, ended.stderr)
            assert not OBEYED.search(ended.stdout + ended.stderr), words
            assert not re.search(r"^\d\d:\d\d:\d\d.*forged", ended.stdout, re.MULTILINE), words
            if form == "json":
                json.loads(ended.stdout)
    contexts = {
        item["clientContext"] for item in json.loads(tracker(dev, "list", "hostile", "-o", "json").stdout)["value"]
    }
    assert contexts == set(TEXTS.values())

    log = dev.data_dir.with_suffix(".log").read_text()
    assert log.count("operation_failed") >= 2 * len(TEXTS)
    assert not OBEYED.search(log)
    assert [line for line in log.splitlines() if not LINE.match(line)] == []
    assert not re.search(r"\| \d\d:\d\d:\d\d\.\d{6} \[info +\] operation_completed +operation_id=forged", log)


def test_a_refusal_that_quotes_the_request_is_one_line(dev: Dev) -> None:
    for text in TEXTS.values():
        ended = tracker(dev, "get", "hostile", text.replace("\0", ""))  # no argument of a command holds it
        assert ended.returncode != 0
        assert not OBEYED.search(ended.stderr)
        assert len(ended.stderr.splitlines()) == 1
