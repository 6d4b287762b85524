"""`tracker doctor`: whether the Redis behind an installation is fit for it, and whether anything is lost."""

from typing import Annotated

import typer

from tracker.cli.output import Exit, Format, Output, print_json, print_table


def doctor(
    redis_url: Annotated[
        str | None, typer.Option(help="The server to examine. Default: REDIS_URL.", show_default=False)
    ] = None,
    output: Output = Format.TABLE,
) -> None:
    """Examine the Redis server and the installation; exits 1 when a check fails."""
    import asyncio

    from tracker import config
    from tracker.cli import checks
    from tracker.fitness import Level

    settings = config.load()
    if redis_url is not None:
        settings = settings.model_copy(update={"redis_url": redis_url})
    findings = checks.examine(asyncio.run(checks.gather(settings)))
    if output is Format.JSON:
        print_json([finding.as_json() for finding in findings])
    else:
        rows = ((finding.level, finding.check, finding.found, finding.advice) for finding in findings)
        print_table(("", "check", "found", "advice"), rows)
    if any(finding.level is Level.FAIL for finding in findings):
        raise typer.Exit(Exit.FAILED)
