"""The command line without a server behind it, and `doctor`."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from tests.support.waiting import LONGEST_WAIT
from tracker import config, log
from tracker.api.auth import open_callers
from tracker.cli import checks, main, output
from tracker.cli.checks import Facts
from tracker.config import Settings
from tracker.domain.operation import OperationStatus
from tracker.store import server_check
from tracker.store.keys import Keys
from tracker.store.server_check import Level, ServerFacts

Run = Callable[..., tuple[int, str, str]]
FIT = ServerFacts(
    info={
        "server_name": "valkey",
        "valkey_version": "9.1.2",
        "redis_version": "7.2.4",
        "aof_enabled": 1,
        "maxmemory_policy": "noeviction",
    },
    fsync="always",
)
HEALTHY = Facts(server=FIT, drift=0.01, sweeping=True, leases=0, due=0, suspects=0, workers=2)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `tracker` with these words, in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tracker", *words])
        with pytest.raises(SystemExit) as end:
            main.main()
        return int(end.value.code or 0), *capsys.readouterr()

    return run


def test_help_names_every_exit_code(run: Run) -> None:
    code, out, _ = run("--help")
    assert code == 0
    told = " ".join(out.split())
    for exit_code in output.Exit:
        assert f"{exit_code.value} {output.MEANINGS[exit_code]}" in told


def test_help_imports_nothing_that_only_commands_need() -> None:
    script = (
        "import sys; from tracker.cli.main import main; sys.argv = ['tracker', '--help']\n"
        "try: main()\n"
        "except SystemExit: print('\\nMODULES', *sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    modules = set(out.partition("\nMODULES ")[2].split())
    assert "tracker.cli.main" in modules
    assert not modules & {"aiohttp", "redis", "rq", "pydantic", "pydantic_settings", "structlog", "uvloop"}


def test_version_is_the_distributions(run: Run) -> None:
    code, out, _ = run("--version")
    assert (code, out.strip().count(".")) == (0, 2)


def test_list_offers_every_status() -> None:
    from tracker.cli.operations import Status  # noqa: PLC0415 - the only test that needs it

    assert [status.value for status in Status] == [status.value for status in OperationStatus]


def test_a_new_token_is_one_that_servers_take(run: Run) -> None:
    code, out, _ = run("token", "--name", "ci", "--tenant", "contoso", "--output", "json")
    made = json.loads(out)
    caller = open_callers(Settings(tokens=made["line"])).identify(f"Bearer {made['token']}")
    assert (code, caller.name, caller.tenant) == (0, "ci", "contoso")


def test_two_tokens_are_different(run: Run) -> None:
    assert run("token")[1] != run("token")[1]


@pytest.mark.parametrize("name", ["", "a:b", "a\nb", "a" * 65])
def test_a_name_that_would_break_the_line_of_a_token_is_refused(run: Run, name: str) -> None:
    code, out, _ = run("token", "--name", name)
    assert (code, out) == (output.Exit.USAGE, "")


def test_a_wrong_setting_is_one_line_and_exit_2(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRACKER_PORT", "eighty")
    code, out, err = run("serve")
    assert (code, out) == (output.Exit.USAGE, "")
    assert err.startswith("tracker: TRACKER_PORT: ")
    assert err.count("\n") == 1


def test_a_misspelt_setting_is_named_with_the_one_that_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRACKER_TOKNES", "TRACKER_TYPES", "TRACKER_Port", "TRACKER_URL", "TRACKER_TYPES_DIR", "TRACKER_XYZ"):
        monkeypatch.setenv(name, "8080")
    assert [*config.misspelt()] == [("TRACKER_TOKNES", "TRACKER_TOKENS")]
    code = "from tracker.cli.startup import start; start()"
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert told.stderr.count("setting_misspelt") == 1
    assert "TRACKER_TOKENS" in told.stderr


def test_no_auth_on_a_public_address_is_refused() -> None:
    words = ["serve", "--host", "0.0.0.0", "--auth", "none", "--port", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "tracker.cli.main", *words],
        capture_output=True,
        text=True,
        timeout=LONGEST_WAIT,
        check=False,
    )
    assert done.returncode == output.Exit.USAGE
    assert "loopback" in done.stderr


@pytest.mark.parametrize("body", ["[1]", "{", "@/no/such/file"])
def test_a_body_that_is_no_json_object_is_a_usage_error(run: Run, body: str) -> None:
    code, _, err = run("create", "call", "--body", body)
    assert code == output.Exit.USAGE
    assert err.startswith("tracker: --body: ")


@pytest.mark.parametrize(
    "words",
    [("get", "call", "id"), ("list", "call"), ("cancel", "call", "id"), ("wait", "call", "id", "--timeout", "0")],
)
def test_a_server_that_is_not_there_is_exit_3(run: Run, words: tuple[str, ...]) -> None:
    code, out, err = run(*words, "--url", "http://127.0.0.1:1")
    assert (code, out) == (output.Exit.UNREACHABLE, "")
    assert "127.0.0.1:1" in err


def test_an_url_that_is_none_is_a_usage_error(run: Run) -> None:
    assert run("get", "call", "id", "--url", "nowhere")[0] == output.Exit.USAGE


def test_doctor_without_redis_is_exit_3(run: Run) -> None:
    code, _, err = run("doctor", "--redis-url", "redis://127.0.0.1:1/0")
    assert code == output.Exit.UNREACHABLE
    assert err.startswith("tracker: Redis cannot be used")


def test_doctor_finds_the_private_server_fit(run: Run, settings: Settings) -> None:
    code, out, _ = run("doctor", "--output", "json")
    found = {finding["check"]: finding["level"] for finding in json.loads(out)}
    assert (code, found.pop("sweeper"), found.pop("workers"), found.pop("hosts")) == (0, "warn", "warn", "warn")
    assert set(found.values()) == {"ok"}
    assert settings.redis_url == os.environ["REDIS_URL"]


def test_doctor_finds_lost_operations_a_sweeper_and_workers(run: Run, redis_url: str, settings: Settings) -> None:
    keys = Keys(settings.key_prefix, settings.rq_key_prefix)
    with Redis.from_url(redis_url) as redis:
        late = (int(redis.time()[0]) - checks.PATIENCE - 1) * 1_000_000
        redis.zadd(keys.leases, {"a": late, "b": late * 2})
        redis.set(keys.sweeper, "token", ex=60)
        redis.sadd("rq:workers", "rq:worker:alive", "rq:worker:dead")
        redis.hset("rq:worker:alive", "birth", "now")
    code, out, _ = run("doctor")
    told = {" ".join(line.split()) for line in out.splitlines()}
    assert code == output.Exit.FAILED
    assert any(line.startswith("fail lost: leases 1 operations") for line in told)
    assert {"ok sweeper at work", "ok workers 1 alive", "ok lost: due none"} <= told


@pytest.mark.parametrize(
    ("settings", "any_host"),
    [
        ({}, True),
        ({"auth": "none"}, False),
        ({"public_url": "https://ops.example.org"}, False),
        ({"allowed_hosts": ("ops.example.org",)}, False),
    ],
)
def test_doctor_warns_while_the_settings_name_no_host(settings: dict[str, Any], any_host: bool) -> None:
    assert checks.answers_any_host(Settings(**settings)) is any_host


def judged(**facts: Any) -> dict[str, Level]:
    """Checks that are not ok, of a healthy installation but for these facts."""
    found = checks.examine(replace(HEALTHY, **facts))
    assert all(finding.advice for finding in found if finding.level is not Level.OK)
    return {finding.check: finding.level for finding in found if finding.level is not Level.OK}


def info(**changes: Any) -> ServerFacts:
    return replace(FIT, info={**(FIT.info or {}), **changes})


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({}, {}),
        ({"server": info(valkey_version="7.2.9")}, {"version": Level.FAIL}),
        ({"server": info(server_name="redis")}, {}),
        ({"server": info(server_name="redis", redis_version="6.2.14")}, {"version": Level.FAIL}),
        ({"server": info(aof_enabled=0)}, {"appendonly": Level.FAIL}),
        ({"server": info(aof_last_write_status="err")}, {"appendonly": Level.FAIL}),
        ({"server": info(maxmemory_policy="allkeys-lru")}, {"maxmemory-policy": Level.FAIL}),
        ({"server": info(used_memory=899, maxmemory=1000)}, {}),
        ({"server": info(used_memory=900, maxmemory=1000)}, {"memory": Level.WARN}),
        ({"server": info(used_memory=1001, maxmemory=1000)}, {"memory": Level.FAIL}),
        ({"server": info(used_memory=1001, maxmemory=1000, mem_not_counted_for_evict=200)}, {}),
        ({"server": info(used_memory=10**12, maxmemory=0)}, {}),
        ({"server": replace(FIT, fsync="everysec")}, {"appendfsync": Level.WARN}),
        ({"server": replace(FIT, fsync="no")}, {"appendfsync": Level.FAIL}),
        ({"server": replace(FIT, fsync=None)}, {"appendfsync": Level.WARN}),
        ({"server": ServerFacts(None, None)}, {"server": Level.WARN, "appendfsync": Level.WARN}),
        ({"drift": -1.5}, {"clock": Level.WARN}),
        ({"any_host": True}, {"hosts": Level.WARN}),
        ({"sweeping": False, "workers": 0}, {"sweeper": Level.WARN, "workers": Level.WARN}),
        (
            {"leases": 1, "due": 2, "suspects": 3},
            {f"lost: {what}": Level.FAIL for what in ("leases", "due", "tickets")},
        ),
    ],
)
def test_doctor_judges(facts: dict[str, Any], found: dict[str, Level]) -> None:
    assert judged(**facts) == found


async def test_a_process_says_at_its_start_what_of_the_server_does_not_fit(
    settings: Settings, redis: AsyncRedis, capsys: pytest.CaptureFixture[str]
) -> None:
    log.configure(settings)
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        await server_check.report(redis)
    finally:
        await redis.config_set("maxmemory-policy", "noeviction")
    told = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["event"], line["check"], line["level"]) for line in told] == [
        ("server_unfit", "maxmemory-policy", "error")
    ]


@pytest.mark.parametrize("command", ["serve", "worker", "dev"])
@pytest.mark.usefixtures("settings")
def test_a_teams_module_is_found_in_the_working_directory(
    command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "team_operations.py").write_text(
        "from tracker.errors import ConfigurationError\nraise ConfigurationError('found by the import')\n"
    )
    monkeypatch.setenv("TRACKER_TYPES", "team_operations")
    script = Path(sys.executable).with_name("tracker")
    ended = subprocess.run(
        [script, command], cwd=tmp_path, capture_output=True, text=True, timeout=LONGEST_WAIT, check=False
    )
    assert ended.returncode == output.Exit.USAGE
    assert ended.stderr.splitlines()[-1].startswith("tracker: TRACKER_TYPES: team_operations: found by the import")
