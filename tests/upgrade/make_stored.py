"""The script that makes stored data: README.md in this directory says how to run it.

It runs `tracker dev` of another checkout, brings operations into every stage, stores what the API answers, and kills
all processes. It writes `stored/<commit>.tar.gz`, the data directory, and `stored/<commit>.json`, the answers. It takes
two minutes and needs Linux.
"""

import gzip
import hashlib
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from tests.upgrade import questions, stored_operations
from tests.upgrade.asking import PUBLIC_URL, TOKENS, Json
from tests.upgrade.old_tracker import Old, Tracker, eventually
from tests.upgrade.receiver import running_receiver
from tests.upgrade.stored_operations import SPOOLED, STAGES

HERE = Path(__file__).resolve().parent
TEN_YEARS = str(3650 * 86400)
"""The longest time, in seconds, that the settings allow. Nothing that is stored expires before."""


def explained(old: Old, tracker: Tracker) -> dict[str, Json]:
    """What `tracker why` prints about operations, but for the reasons, which depend on the time."""
    told = {}
    for stage, names in {**STAGES, "failed": ("failed-raised", "failed-lost")}.items():
        for name in names:
            operation = old.created[name]
            told[name] = tracker.json("why", operation.id, "--tenant", operation.tenant)
            del told[name]["reasons"]
            assert told[name]["stage"] == stage, (name, told[name])
    return told


def spool_and_die(old: Old, process: "subprocess.Popen[str]") -> None:
    """Let operations end while the server does not answer. Kill all processes when the spool has the outcomes."""
    os.kill(old.child("valkey"), signal.SIGSTOP)
    for name in SPOOLED:
        (old.released / f"{name}.go").touch()

    def spooled() -> bool:
        lines = [line for file in (old.data / "spool").glob("*") for line in file.read_text().splitlines() if line]
        return len(lines) == len(SPOOLED)

    eventually(spooled, "outcomes in the spool")
    children = [old.child(name) for name in ("valkey", "api", "worker")]
    process.kill()
    process.wait()
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "the end of all processes")


def token_lines() -> dict[str, str]:
    """The line of each tenant for TRACKER_TOKENS. `tracker dev` adds the line of the tenant `dev` itself."""
    return {name: f"{name}:{name}:{hashlib.sha256(token.encode()).hexdigest()}" for name, token in TOKENS.items()}


def environment(checkout: Path, work: Path, receiver: str) -> dict[str, str]:
    """The environment of all processes of the checkout."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("TRACKER_", "REDIS_URL", "RQ_"))}
    return {
        **ours,
        "PYTHONPATH": str(HERE),
        "TEST_HANDLERS_DIR": str(work / "released"),
        "TRACKER_DEV_TOKEN": TOKENS["dev"],
        "TRACKER_TOKENS": token_lines()["other"],
        "TRACKER_TYPES": "stored_types",
        "TRACKER_UNKNOWN_TYPES": "accept",
        "TRACKER_URL_HANDLERS": f"#stored.remote={receiver}",
        "TRACKER_PUBLIC_URL": PUBLIC_URL,
        "TRACKER_MEDIA_DIR": str(checkout / "examples" / "media"),
        "TRACKER_PLAYBACK_SPEED": "1000",
        "TRACKER_DRAIN_SECONDS": "0",
        **dict.fromkeys(("TRACKER_RETENTION", "TRACKER_TOMBSTONE", "TRACKER_IDEMPOTENCY"), TEN_YEARS),
    }


def make(checkout: Path, work: Path) -> Json:
    """Make the data directory `work`/data. Returns what the version answered about it."""
    (work / "released").mkdir()
    with ExitStack() as stack:
        receiver = stack.enter_context(running_receiver())
        words = (str(checkout / ".venv" / "bin" / "python"), "-m", "tracker.cli.main")
        variables = environment(checkout, work, receiver)
        tracker = Tracker(words, work, variables)
        options = ("--data-dir", str(work / "data"), "--port", "0", "--workers", "3")
        process, printed = stack.enter_context(tracker.running("dev", *options))
        variables["REDIS_URL"] = next(line.split()[1] for line in printed if line.startswith("redis "))
        more = {"TRACKER_TYPES": "stored_types,stored_types_lacking", "TRACKER_TOKENS": token_lines()["dev"]}
        serving, printed_by_serve = stack.enter_context(tracker.running("serve", "--port", "0", **more))
        old = Old(printed[-1].split()[1], work / "data", work / "released")
        stored_operations.make_all(old, more_types=printed_by_serve[-1].split()[1])
        serving.terminate()
        serving.wait()
        why = explained(old, tracker)
        verified = tracker.json("doctor", "--verify")
        assert verified["faults"] == [], verified
        answers = questions.settled(
            old
        )  # last, because every 30 s an operation is claimed and parked again whose type no worker has
        spool_and_die(old, process)
    return {
        "commit": subprocess.check_output(("git", "-C", checkout, "rev-parse", "HEAD"), text=True).strip(),
        "killed": round(time.time() * 1_000_000),
        "operations": verified["operations"],
        "created": {name: operation._asdict() for name, operation in old.created.items()},
        "why": why,
        "answers": [[question._asdict(), answer._asdict()] for question, answer in answers],
    }


def pack(data: Path, archive: Path) -> None:
    """Pack the data directory as the killed processes left it, without sockets and owners.

    The server's base file is left out too. It holds no data, and other versions of the server cannot read it.
    """
    manifest = data / "appendonlydir" / "appendonly.aof.manifest"
    [base, changes] = manifest.read_text().splitlines(keepends=True)
    (manifest.parent / base.split()[1]).unlink()
    manifest.write_text(changes)

    def plain(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member if member.isfile() or member.isdir() else None

    with (
        archive.open("wb") as file,
        gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as tar,
    ):
        tar.add(data, "data", filter=plain)


def dump(told: Json, path: Path) -> None:
    """Write JSON with one line for each operation and for each answer."""

    def lines(value: object) -> str:
        if isinstance(value, dict):
            inner = [f"{json.dumps(name)}: {json.dumps(item, ensure_ascii=False)}" for name, item in value.items()]
            return "{\n" + ",\n".join(inner) + "\n}"
        if isinstance(value, list):
            return "[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in value) + "\n]"
        return json.dumps(value)

    members = (f"{json.dumps(name)}: {lines(value)}" for name, value in told.items())
    path.write_text("{\n" + ",\n".join(members) + "\n}\n")


def main() -> None:
    checkout = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        told = make(checkout, work)
        name = told["commit"][:7]
        pack(work / "data", HERE / "stored" / f"{name}.tar.gz")
        dump(told, HERE / "stored" / f"{name}.json")


if __name__ == "__main__":
    main()
