"""The processes of `tracker dev`: their commands, the order in which they start and stop, and the output."""

import asyncio
import json
import shlex
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from http import HTTPStatus
from pathlib import Path

import aiohttp
import typer

from tracker import log
from tracker.cli.orphans import ChildRecords, end_orphans
from tracker.cli.output import Exit, note, print_line
from tracker.cli.token import token_line
from tracker.config import Settings
from tracker.errors import ConfigurationError
from tracker.runtime import hangup, signals
from tracker.runtime.dev_valkey import PrivateServer, check_room, locked
from tracker.runtime.processes import Child, Supervisor
from tracker.visible_text import visible_lines

VALKEY = "valkey"
TERM, KILL = signal.SIGTERM, signal.SIGKILL
EXIT_TIMEOUT = 10.0
"""The longest time that a process without operations may take to end, in seconds. Then it is killed."""
POLL_INTERVAL = 0.05
"""Seconds between two checks whether a process is ready."""
COLOURS = {VALKEY: typer.colors.RED, "api": typer.colors.CYAN, "worker": typer.colors.GREEN}
EXAMPLE = {
    "@odata.type": "#microsoft.graph.commsOperation",
    "status": "String",
    "clientContext": "Client Context value",
    "resultInfo": {
        "@odata.type": "microsoft.graph.ResultInfo",
        "code": 4,
        "subcode": 7,
        "message": "Message value",
    },
}
"""The example of `commsOperation` in Graph's documentation."""


@dataclass(frozen=True)
class StackPlan:
    """The processes to run. A `port` of 0 is any free port.

    With `redis_url` the processes use that server. Otherwise a private Valkey is started, which also listens on
    `redis_port` if that is given. `workers`: how many plain functions run at once; 0 for no worker. `types`: the value
    of TRACKER_TYPES; None leaves it to the environment.
    """

    settings: Settings
    data_dir: Path
    host: str
    port: int
    redis_port: int | None
    redis_url: str | None
    workers: int
    types: str | None
    token: str

    @cached_property
    def server(self) -> PrivateServer:
        """The private Valkey."""
        return PrivateServer(self.data_dir, self.redis_port)

    @property
    def url(self) -> str:
        """The URL of the API on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def children(self) -> list[Child]:
        """The child processes, in the order of their start."""
        tracker = (sys.executable, "-m", "tracker.cli.main")
        environment = self._environment()
        children = [Child("api", (*tracker, "serve"), environment)]
        if self.redis_url is None:
            children.insert(0, Child(VALKEY, self.server.argv()))
        if self.workers:
            children.append(Child("worker", (*tracker, "worker", "--processes", str(self.workers)), environment))
        return children

    def _environment(self) -> dict[str, str]:
        environment = {
            "REDIS_URL": self.redis_url or self.server.url,
            "TRACKER_HOST": self.host,
            "TRACKER_PORT": str(self.port),
            "TRACKER_TOKENS": f"{self.settings.tokens}\n{token_line('dev', 'dev', self.token)}".strip(),
            "TRACKER_SPOOL_DIR": str(self.settings.spool_dir or self.data_dir.absolute() / "spool"),
            "PYTHONUNBUFFERED": "1",
        }
        if self.types is not None:
            environment["TRACKER_TYPES"] = self.types
        if self.settings.log_format == "auto" and sys.stderr.isatty():
            environment["TRACKER_LOG_FORMAT"] = "human"  # the children write to a pipe, and a person reads it
        return environment


async def run(plan: StackPlan) -> None:
    """Run all processes until SIGINT or SIGTERM, and stop them in order. A second signal ends the workers' drain early.

    SIGHUP is passed on to the API, which reads its file of tokens again. Raises ConfigurationError when the data
    directory is in use or cannot be written, the port is in use, an orphan of an earlier run cannot be ended, or a
    process refuses its configuration.
    """
    with locked(plan.data_dir):
        records = ChildRecords(plan.data_dir)
        for name, pid in end_orphans(plan.server, records).items():
            note(f"ended {name} (process {pid}), which an earlier run had left running")
        plan = replace(plan, port=_free_port(plan.host, plan.port))
        if plan.redis_url is None:
            _free_port("127.0.0.1", plan.redis_port or 0)
            plan.server.prepare()
        supervisor = Supervisor(
            plan.children(), on_line=_printer(), on_start=_recorder(records, plan), fatal_exit=Exit.USAGE
        )
        running = asyncio.create_task(_bring_up(supervisor, plan))
        stop = asyncio.Event()
        signals.on_stop(stop.set)
        hangup.on_hangup(partial(supervisor.send, signal.SIGHUP, to={"api"}), stop=stop.set)
        try:
            await asyncio.wait({running, asyncio.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                await running
        finally:
            stop.clear()  # from here on the event is a second signal
            await _stop(supervisor, plan, at_once=stop)
            running.cancel()


def _recorder(records: ChildRecords, plan: StackPlan) -> Callable[[str, int], None]:
    """A function that records each start of a child. When Valkey starts again, it says whether the disk is full.

    A Valkey whose disk is full ends at its next write, and starts again until there is room.
    """
    started: set[str] = set()

    def record(name: str, pid: int) -> None:
        if name == VALKEY and name in started:
            try:
                check_room(plan.data_dir)
            except ConfigurationError as error:
                note(error.message)
        started.add(name)
        records.record(name, pid)

    return record


def _free_port(host: str, port: int) -> int:
    """The port, or a free one for 0. Raises ConfigurationError when nothing can listen on it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigurationError(f"{host} port {port}: {error.strerror}; choose another") from None
        return int(probe.getsockname()[1])


async def _bring_up(supervisor: Supervisor, plan: StackPlan) -> None:
    """Start Valkey and then the other processes, print a line when all are ready, and keep them running."""
    if plan.redis_url is None:
        supervisor.start(VALKEY)
        while not plan.server.answers():  # noqa: ASYNC110 - a server does not report that it is up
            await asyncio.sleep(POLL_INTERVAL)
    await asyncio.gather(supervisor.run(), _print_usage_when_ready(plan))


async def _ready(url: str) -> None:
    """Return when the API reports that it is ready."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        while True:
            with suppress(aiohttp.ClientError, TimeoutError):
                async with session.get(f"{url}/readyz") as response:
                    if response.status == HTTPStatus.OK:
                        return
            await asyncio.sleep(POLL_INTERVAL)


async def _stop(supervisor: Supervisor, plan: StackPlan, *, at_once: asyncio.Event) -> None:
    """Stop the API and the workers, and then the Valkey that they write to.

    When `at_once` is set, workers hand back the operations that they run.
    """
    drain = plan.settings.drain_seconds + EXIT_TIMEOUT
    orderly = asyncio.create_task(supervisor.stop([(0, TERM), (drain, KILL)], only={"api", "worker"}))
    second_signal = asyncio.create_task(at_once.wait())
    await asyncio.wait({orderly, second_signal}, return_when=asyncio.FIRST_COMPLETED)
    if not orderly.done():
        # at a second SIGTERM workers hand back what they run
        await supervisor.stop([(0, TERM), (EXIT_TIMEOUT, KILL)], only={"api", "worker"})
    second_signal.cancel()
    await supervisor.stop([(0, TERM), (EXIT_TIMEOUT, KILL)])


def _printer() -> Callable[[str, str], None]:
    """A function that prints a child's line to standard error after the child's name, in colour on a terminal.

    The line may be the output of a handler, so control characters in it are shown in a visible form.
    """
    width = max(map(len, COLOURS))
    in_colour = sys.stderr.isatty()

    def show(name: str, line: str) -> None:
        prefix = f"{name:<{width}} | "
        log.relay((typer.style(prefix, fg=COLOURS.get(name)) if in_colour else prefix) + visible_lines(line))

    return show


async def _print_usage_when_ready(plan: StackPlan) -> None:
    """Wait until the API is ready, and print how to use the service. The last line is `ready <url>`, for scripts."""
    await _ready(plan.url)
    operations = f"{plan.url}/v1.0/communications/calls/demo/operations"
    given = plan.redis_url and plan.settings.model_copy(update={"redis_url": plan.redis_url}).redis_address
    redis = given or (f"redis://127.0.0.1:{plan.redis_port}" if plan.redis_port else plan.server.url)
    print_line(f"token  {plan.token}  (tenant dev)")
    print_line(f"redis  {redis}{'  (from REDIS_URL; no private Valkey)' if plan.redis_url else ''}")
    authorization = shlex.quote(f"Authorization: Bearer {plan.token}")
    print_line(f"try    curl -i {operations} \\")
    print_line(f"         -H {authorization} -H 'Content-Type: application/json' \\")
    print_line(f"         -d {shlex.quote(json.dumps(EXAMPLE))}")
    print_line(f"ready {plan.url}")
