"""`tracker dev` as a person runs it, and the other commands against it."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.support.dev_stack import TOKEN, TRACKER, Dev, environment, running_dev
from tests.support.waiting import LONGEST_WAIT
from tracker.cli import main
from tracker.cli.orphans import identity
from tracker.cli.output import Exit
from tracker.runtime.dev_valkey import start_server, until
from tracker.store.keys import Keys

Json = dict[str, Any]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dev]:
    with running_dev(tmp_path_factory.mktemp("dev") / "data", "--workers", "1") as started:
        yield started


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `tracker` with these words in this process, against the given stack."""

    def run(dev: Dev, *words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tracker", *words])
        monkeypatch.setenv("TRACKER_URL", dev.url)
        monkeypatch.setenv("TRACKER_TOKEN", TOKEN)
        with pytest.raises(SystemExit) as end:
            main.main()
        return int(end.value.code or 0), *capsys.readouterr()

    return run


def in_small_file_system(directory: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a name space of its own, in which the directory is a file system of 256 KiB that is full."""
    script = (
        'mount -t tmpfs -o size=256k tmpfs "$1" || exit 77; mkdir "$1/data"; cat /dev/zero > "$1/filler" 2> /dev/null;'
        ' shift; exec "$@"'
    )
    command = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(directory), *words)
    return subprocess.run(
        command, capture_output=True, text=True, timeout=LONGEST_WAIT, check=False, env=environment({})
    )


@pytest.mark.skipif(shutil.which("unshare") is None, reason="a full file system needs a name space of its own")
def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    if in_small_file_system(tmp_path, "true").returncode:
        pytest.skip("this system allows no file system of one's own")
    data = tmp_path / "data"
    ended = in_small_file_system(tmp_path, *TRACKER, "dev", "--data-dir", str(data), "--port", "0")
    assert ended.returncode == Exit.USAGE
    assert ended.stderr == (
        f"tracker: {data} cannot be written: No space left on device; make room, or take another --data-dir\n"
    )
    assert ended.stdout == ""


def test_an_operation_is_created_followed_to_its_end_and_found_again(run: Run, dev: Dev) -> None:
    code, out, told = run(dev, "create", "call/1", "--context", "mine", "--wait", "--output", "json")
    created = json.loads(out)
    assert f"Created {created['id']}." in told
    assert (code, created["status"], created["clientContext"]) == (0, "Completed", "mine")

    code, out, _ = run(dev, "get", "call/1", created["id"], "-o", "json")
    assert (code, json.loads(out)) == (0, created)

    code, out, _ = run(dev, "list", "call/1", "--status", "completed", "--context", "mine", "-o", "json")
    assert (code, [item["id"] for item in json.loads(out)["value"]]) == (0, [created["id"]])
    assert json.loads(run(dev, "list", "call/1", "--status", "running", "-o", "json")[1])["value"] == []

    code, out, _ = run(dev, "cancel", "call/1", created["id"], "--reason", "too late", "-o", "json")
    assert (code, json.loads(out)["status"]) == (0, "Completed")


def test_tables_show_what_json_does(run: Run, dev: Dev) -> None:
    _, out, _ = run(dev, "create", "tables", "--context", "[bold]mine[/bold]", "--wait")
    for words in (("list", "tables"), ("get", "tables", out.split("id ", 1)[1].split()[0])):
        code, told, _ = run(dev, *words)
        assert code == 0
        assert "[bold]mine[/bold]" in told
        assert "microsoft.graph.commsOperation" in told
        assert "Action completed successfully." in told


def test_a_failed_operation_is_exit_1_and_shown(run: Run, dev: Dev, tmp_path: Path) -> None:
    body = tmp_path / "body.json"
    body.write_text(json.dumps({"prompts": [{"mediaInfo": {"uri": "no-such-file.wav"}}]}))
    words = ("--type", "#microsoft.graph.playPromptOperation", "--body", f"@{body}", "--wait", "-o", "json")
    code, out, _ = run(dev, "create", "failing", *words)
    operation = json.loads(out)
    assert (code, operation["status"]) == (Exit.FAILED, "Failed")
    assert 400 <= operation["resultInfo"]["code"] < 500
    assert run(dev, "wait", "failing", operation["id"])[0] == Exit.FAILED
    assert run(dev, "get", "failing", operation["id"])[0] == Exit.OK


def test_each_refusal_has_its_exit_code(run: Run, dev: Dev) -> None:
    assert run(dev, "get", "call", "nothing-here")[0] == Exit.NOT_FOUND
    code, _, err = run(dev, "create", "call", "--type", "#unknown.type")
    assert (code, err.count("\n")) == (Exit.REFUSED, 1)
    assert run(dev, "list", "call", "--token", "wrong")[0] == Exit.REFUSED


def test_what_it_tells_to_paste_works(dev: Dev) -> None:
    pasted = dev.told.partition("try ")[2].partition("\nready ")[0]
    words = shlex.split(pasted.replace("\\\n", " "))
    headers = dict(words[index + 1].split(": ", 1) for index, word in enumerate(words) if word == "-H")
    request = urllib.request.Request(words[2], words[words.index("-d") + 1].encode(), headers)
    with urllib.request.urlopen(request) as answer:
        assert (words[0], answer.status) == ("curl", 201)
        assert json.load(answer)["status"] == "NotStarted"


def test_a_second_one_on_the_same_directory_is_refused_and_told_by_whom(dev: Dev) -> None:
    words = (*TRACKER, "dev", "--data-dir", str(dev.data_dir), "--port", dev.url.rpartition(":")[2])
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONGEST_WAIT, check=False, env=environment({}))
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")
    assert f"in use by process {dev.process.pid}:" in done.stderr


@pytest.mark.parametrize("option", ["--port", "--redis-port"])
def test_a_port_that_is_taken_is_refused(dev: Dev, tmp_path: Path, option: str) -> None:
    taken = dev.url.rpartition(":")[2]
    words = (*TRACKER, "dev", "--data-dir", str(tmp_path / "data"), "--port", "0", option, taken)
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONGEST_WAIT, check=False, env=environment({}))
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")
    assert f"port {taken}: Address already in use" in done.stderr


@pytest.mark.parametrize(
    ("options", "changes", "told"),
    [
        (("--types", "no.such.module"), {}, "tracker: TRACKER_TYPES: no.such.module does not load"),
        ((), {"TRACKER_TOKENS": "nonsense"}, "api    | tracker: TRACKER_TOKENS, line 1 is not of the form"),
        ((), {"TRACKER_TOKENS": "nonsense"}, "tracker: api cannot start"),
        ((), {"TRACKER_MEDIA_DIR": "no/such"}, "tracker: TRACKER_MEDIA_DIR: Value error, no/such is not a directory"),
    ],
)
def test_a_configuration_that_cannot_work_ends_it_with_the_reason(
    tmp_path: Path, options: tuple[str, ...], changes: dict[str, str], told: str
) -> None:
    words = (*TRACKER, "dev", "--data-dir", str(tmp_path / "data"), "--port", "0", "--workers", "0", *options)
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=LONGEST_WAIT, check=False, env=environment(changes)
    )
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")
    assert told in done.stderr


def test_a_given_server_that_does_not_answer_ends_it_with_the_reason(tmp_path: Path) -> None:
    words = (*TRACKER, "dev", "--data-dir", str(tmp_path / "data"), "--port", "0")
    changes = environment({"REDIS_URL": "redis://127.0.0.1:1/0"})
    done = subprocess.run(words, capture_output=True, text=True, timeout=LONGEST_WAIT, check=False, env=changes)
    assert (done.returncode, done.stdout) == (Exit.UNREACHABLE, "")
    assert "REDIS_URL is set, and its server cannot be used" in done.stderr


@pytest.mark.parametrize("child", ["valkey", "api", "worker"])
def test_a_child_that_is_killed_comes_back_and_nothing_is_lost(run: Run, dev: Dev, child: str) -> None:
    _, out, _ = run(dev, "create", f"killed {child}", "--wait", "-o", "json")
    before = json.loads(out)
    killed = dev.children[child]
    os.kill(killed, signal.SIGKILL)
    assert until(lambda: dev.children[child] != killed and dev.ready(), LONGEST_WAIT)

    assert json.loads(run(dev, "get", f"killed {child}", before["id"], "-o", "json")[1]) == before
    code, out, _ = run(dev, "create", f"killed {child}", "--wait", "--timeout", "60", "-o", "json")
    assert (code, json.loads(out)["status"]) == (0, "Completed")


def test_after_a_kill_of_all_the_next_start_finds_its_operations_and_ends_cleanly(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_dev(data, "--workers", "0") as first:
        _, out, _ = run(first, "create", "call", "-o", "json")
        waiting = json.loads(out)
        assert waiting["status"] == "NotStarted"
        first.process.kill()

    with running_dev(data, "--workers", "1") as second:
        code, out, _ = run(second, "wait", "call", waiting["id"], "--timeout", "60", "-o", "json")
        assert (code, json.loads(out)["status"]) == (0, "Completed")
        children = second.children
        assert set(children) == {"valkey", "api", "worker"}
        second.process.send_signal(signal.SIGINT)
        assert second.process.wait(LONGEST_WAIT) == 0
        assert {name: identity(pid) for name, pid in children.items()} == dict.fromkeys(children)


def test_with_a_redis_url_no_server_is_started(run: Run, tmp_path: Path) -> None:
    server = start_server(tmp_path / "other")
    try:
        with running_dev(tmp_path / "data", "--workers", "0", REDIS_URL=server.url) as dev:
            assert run(dev, "create", "call", "-o", "json")[0] == 0
            assert set(dev.children) == {"api"}
        with redis.Redis.from_url(server.url) as client:
            assert client.exists(Keys().ticketed("default", "dev"))
    finally:
        server.stop()
