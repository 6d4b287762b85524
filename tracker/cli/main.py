"""The command line `tracker`. A command imports its heavy modules only when it runs, so `tracker --help` is fast."""

import sys
import traceback
from typing import Annotated

import typer

from tracker.cli import dev, doctor, operations, serve, token, why
from tracker.cli.output import MEANINGS, CommandFailed, Exit, note, print_line
from tracker.errors import ConfigurationError
from tracker.visible_text import visible_lines

EXIT_CODES = "Exit codes: " + "; ".join(f"{code.value} {meaning}" for code, meaning in MEANINGS.items()) + "."

app = typer.Typer(
    name="tracker",
    help="Run the operation tracker, a service for long-running operations, or use it as a client.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(version("operation-tracker"))
        raise typer.Exit


@app.callback()
def _tracker(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


for panel, commands in {
    "Run the service": (dev.dev, serve.serve, serve.worker),
    "Use the service": (operations.create, operations.get, operations.list_, operations.wait, operations.cancel),
    "Administer the service": (doctor.doctor, why.why, token.token),
}.items():
    for command in commands:
        app.command(command.__name__.rstrip("_"), rich_help_panel=panel)(command)


def main() -> None:
    """Run the command line. An expected error ends it with one line on standard error and an exit code.

    Any other error ends it with a traceback, in which the texts of others are visible as in every other output.
    """
    try:
        app()
    except CommandFailed as stop:
        _end(stop.code, stop.message)
    except ConfigurationError as error:
        _end(Exit.USAGE, error.message)
    except Exception as error:  # noqa: BLE001 - Python would show the same traceback, with all characters as they are
        print_line(visible_lines("".join(traceback.format_exception(error))).rstrip("\n"), err=True)
        sys.exit(Exit.FAILED)


def _end(code: Exit, message: str) -> None:
    note(f"tracker: {message}")
    sys.exit(code)


if __name__ == "__main__":
    main()
