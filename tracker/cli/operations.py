"""`tracker create`, `get`, `list`, `wait`, `cancel`: operations over HTTP."""

import json
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from tracker.cli.output import CommandFailed, Exit, Json, Output, OutputFormat, note, print_json, print_table
from tracker.visible_text import visible

if TYPE_CHECKING:
    from tracker.cli.http_client import Client

T = TypeVar("T")


class Status(StrEnum):
    """The values of `list --status`: a copy of `tracker.domain.operation.OperationStatus`, which is slow to import."""

    NOT_STARTED = "NotStarted"
    RUNNING = "Running"
    COMPLETED = "Completed"
    FAILED = "Failed"


CallId = Annotated[
    str, typer.Argument(help="The call that the operation belongs to: any name of up to 256 characters.")
]
OperationId = Annotated[str, typer.Argument(help="The operation's id.")]
Url = Annotated[str, typer.Option("--url", envvar="TRACKER_URL", help="Address of the API.")]
Token = Annotated[
    str, typer.Option("--token", envvar="TRACKER_TOKEN", help="Bearer token for the API.", show_default=False)
]
Timeout = Annotated[float, typer.Option(min=0, help="The longest time to wait, in seconds.")]
DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_TIMEOUT = 300.0


def create(
    call_id: CallId,
    body: Annotated[str, typer.Option(help="The operation: JSON, @FILE, or - for standard input.")] = "{}",
    type_: Annotated[str | None, typer.Option("--type", help="The @odata.type of the operation.")] = None,
    context: Annotated[str | None, typer.Option(help="The clientContext of the operation.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the operation has ended.")] = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
    url: Url = DEFAULT_URL,
    token: Token = "",
    output: Output = OutputFormat.TABLE,
) -> None:
    """Create an operation. With --wait, also wait for its end."""
    operation = _body(body)
    operation |= {} if type_ is None else {"@odata.type": type_}
    operation |= {} if context is None else {"clientContext": context}
    created = _over_http(url, token, lambda client: client.create(call_id, operation))
    if wait:
        note(f"Created {created['id']}.")
        created = _wait_with_progress(url, token, call_id, str(created["id"]), timeout)
    _print_operation(created, output)
    if wait:
        _exit_if_failed(created)


def get(
    call_id: CallId,
    operation_id: OperationId,
    url: Url = DEFAULT_URL,
    token: Token = "",
    output: Output = OutputFormat.TABLE,
) -> None:
    """Show an operation as it is now."""
    _print_operation(_over_http(url, token, lambda client: client.get(call_id, operation_id)), output)


def list_(
    call_id: CallId,
    status: Annotated[
        Status | None, typer.Option(case_sensitive=False, help="List only operations of this status.")
    ] = None,
    context: Annotated[str | None, typer.Option(help="List only operations with this clientContext.")] = None,
    top: Annotated[int, typer.Option(min=1, max=999, help="How many operations to list at most.")] = 100,
    url: Url = DEFAULT_URL,
    token: Token = "",
    output: Output = OutputFormat.TABLE,
) -> None:
    """List a call's operations, newest first."""
    wanted = {"status": None if status is None else status.value, "clientContext": context}
    page = _over_http(url, token, lambda client: client.list(call_id, wanted, top))
    if output is OutputFormat.JSON:
        print_json(page)
        return
    print_table(("id", "type", "status", "%", "created", "clientContext", "result"), map(_row, page["value"]))
    if "@odata.nextLink" in page:
        note(f"There are more than these {len(page['value'])}: see --top and --status.")


def wait(
    call_id: CallId,
    operation_id: OperationId,
    timeout: Timeout = DEFAULT_TIMEOUT,
    url: Url = DEFAULT_URL,
    token: Token = "",
    output: Output = OutputFormat.TABLE,
) -> None:
    """Wait until an operation has ended. The exit code is 1 when it failed, and 6 when the time is up."""
    operation = _wait_with_progress(url, token, call_id, operation_id, timeout)
    _print_operation(operation, output)
    _exit_if_failed(operation)


def cancel(
    call_id: CallId,
    operation_id: OperationId,
    reason: Annotated[str | None, typer.Option(help="The reason. It is kept with the operation.")] = None,
    url: Url = DEFAULT_URL,
    token: Token = "",
    output: Output = OutputFormat.TABLE,
) -> None:
    """Ask an operation to stop. A running operation may still end in another way: see `get` or `wait`."""
    _print_operation(_over_http(url, token, lambda client: client.cancel(call_id, operation_id, reason)), output)


def _over_http(url: str, token: str, work: "Callable[[Client], Awaitable[T]]") -> T:
    import asyncio

    from tracker.cli.http_client import Client

    async def connected() -> T:
        async with Client(url, token) as client:
            return await work(client)

    return asyncio.run(connected())


def _wait_with_progress(url: str, token: str, call_id: str, operation_id: str, timeout: float) -> Json:
    with _progress_bar() as show:
        return _over_http(url, token, lambda client: client.wait(call_id, operation_id, timeout, show))


def _body(text: str) -> Json:
    """Read the value of --body. Raises CommandFailed when it is not a JSON object."""
    try:
        if text == "-":
            text = sys.stdin.read()
        elif text.startswith("@"):
            text = Path(text[1:]).read_text(encoding="utf-8")
        body = json.loads(text)
    except (OSError, ValueError) as error:
        raise CommandFailed(Exit.USAGE, f"--body: {error}") from None
    if not isinstance(body, dict):
        raise CommandFailed(Exit.USAGE, "--body: a JSON object is expected")
    return body


@contextmanager
def _progress_bar() -> Iterator[Callable[[Json], None]]:
    """Show an operation's progress on standard error, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    status, detail = (TextColumn(f"{{task.fields[{name}]}}", markup=False) for name in ("status", "detail"))
    with Progress(
        status,
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        detail,
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("", total=None, status="", detail="")

        def show(operation: Json) -> None:
            percent = operation.get("percentComplete")
            progress.update(
                task,
                total=None if percent is None else 100,
                completed=percent or 0,
                status=visible(operation.get("status", "")),
                detail=visible(operation.get("statusDetail") or ""),
            )

        yield show


def _print_operation(operation: Json, output: OutputFormat) -> None:
    if output is OutputFormat.JSON:
        print_json(operation)
    else:
        print_table(("member", "value"), ([name, _cell(value)] for name, value in operation.items()))


def _row(operation: Json) -> list[str]:
    """The cells of an operation in the table of `list`."""
    result = operation.get("resultInfo") or {}
    return [
        operation["id"],
        operation["@odata.type"].removeprefix("#"),
        operation["status"],
        _cell(operation.get("percentComplete")),
        operation.get("createdDateTime", "")[:19],
        operation.get("clientContext") or "",
        f"{result['code']}/{result['subcode']} {result['message']}" if result else "",
    ]


def _cell(value: object) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _exit_if_failed(operation: Json) -> None:
    if operation.get("status") == "Failed":
        raise typer.Exit(Exit.FAILED)
