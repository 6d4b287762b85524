"""Signals at the commands that run the service."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.dev_stack import TRACKER, environment
from tests.support.waiting import LONGEST_WAIT
from tracker.config import Settings
from tracker.runtime.dev_valkey import until

SERVE = ("serve", "--auth", "none", "--port", "0")
COMMANDS = {
    "serve": (SERVE, "api_ready"),
    "serve with processes": ((*SERVE, "--processes", "2"), "api_ready"),
    "worker": (("worker", "--processes", "1"), "worker_ready"),
    "dev": (("dev", "--port", "0", "--workers", "1"), "api_ready"),
}
STOPS = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]


@pytest.mark.parametrize(("words", "ready"), list(COMMANDS.values()), ids=list(COMMANDS))
def test_a_service_ignores_sigusr1_and_stops_in_order_at_sigquit(
    words: tuple[str, ...], ready: str, settings: Settings, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    if words[0] == "dev":
        words = (*words, "--data-dir", str(tmp_path / "data"))
    changes = {} if words[0] == "dev" else {"REDIS_URL": settings.redis_url}
    with (
        log.open("w") as output,
        subprocess.Popen((*TRACKER, *words), stdout=output, stderr=output, env=environment(changes)) as process,
    ):
        try:
            for signum, event in (
                (signal.SIGUSR1, ready),
                (signal.SIGUSR2, '"SIGUSR1"'),
                (signal.SIGQUIT, '"SIGUSR2"'),
            ):
                assert until(lambda event=event: event in log.read_text(), LONGEST_WAIT), event  # type: ignore[misc]
                process.send_signal(signum)
            assert process.wait(LONGEST_WAIT) == 0, log.read_text()[-2000:]
        finally:
            process.kill()


@pytest.mark.parametrize("signum", STOPS)
def test_a_worker_that_waits_for_redis_obeys_signals_that_stop(signum: signal.Signals, tmp_path: Path) -> None:
    log = tmp_path / "log"
    changes = {"REDIS_URL": f"unix://{tmp_path}/nobody.sock"}
    with (
        log.open("w") as output,
        subprocess.Popen((*TRACKER, "worker"), stdout=output, stderr=output, env=environment(changes)) as process,
    ):
        try:
            assert until(lambda: "store_away" in log.read_text(), LONGEST_WAIT)
            process.send_signal(signal.SIGUSR1)
            process.send_signal(signum)
            assert process.wait(LONGEST_WAIT) == 0
            assert "Traceback" not in log.read_text()
        finally:
            process.kill()


AS_INIT = """
import ctypes, os, sys, time
from tracker.runtime import signals
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans come to this process, as to pid 1
signals.run_in_child()
signals.end_early()
if os.fork() == 0:
    orphan = os.fork()
    if orphan == 0:
        os.read(0, 1)
        os._exit(0)
    print(orphan, flush=True)
    os._exit(0)
os.wait()
print("parent", flush=True)
while True:
    time.sleep(60)
"""


@pytest.mark.parametrize("signum", STOPS)
def test_the_first_process_of_a_container_reaps_orphans_and_passes_signals_on(signum: signal.Signals) -> None:
    with subprocess.Popen(
        (sys.executable, "-c", AS_INIT), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdin is not None
            orphan = int(process.stdout.readline())
            assert process.stdout.readline() == "parent\n"
            process.stdin.close()
            assert until(lambda: not Path(f"/proc/{orphan}").exists(), LONGEST_WAIT), "it is no zombie"
            process.send_signal(signum)
            assert process.wait(LONGEST_WAIT) == 0
        finally:
            process.kill()


def test_the_first_process_of_a_container_ends_with_the_code_of_the_program() -> None:
    for ending, code in {"sys.exit(7)": 7, "os.kill(os.getpid(), 9)": 137}.items():
        program = f"import os, sys\nfrom tracker.runtime import signals\nsignals.run_in_child()\n{ending}"
        assert subprocess.run((sys.executable, "-c", program), check=False).returncode == code


def test_a_process_that_is_not_the_first_goes_on_itself() -> None:
    program = "import os\nfrom tracker.runtime import signals\nsignals.adopt_orphans()\nprint(os.getppid())"
    found = subprocess.run((sys.executable, "-c", program), check=True, stdout=subprocess.PIPE, text=True).stdout
    assert int(found) == os.getpid()
