"""`tracker token`: a new bearer token, and the line of TRACKER_TOKENS for it."""

import re
import secrets
from hashlib import sha256
from typing import Annotated

import typer

from tracker.cli.output import Output, OutputFormat, print_json

NAME = re.compile(r"[A-Za-z0-9._~@-]{1,64}")
"""The form of names and tenants that servers accept (`tracker.api.auth`)."""


def token(
    name: Annotated[str, typer.Option(help="Who will use the token. The name appears in logs.")] = "client",
    tenant: Annotated[str, typer.Option(help="The tenant whose operations the token gives access to.")] = "default",
    output: Output = OutputFormat.TABLE,
) -> None:
    """Make a bearer token. It is shown only now: servers store its hash only."""
    for value in (name, tenant):
        if not NAME.fullmatch(value):
            raise typer.BadParameter(f"{value!r}: use up to 64 letters, digits, and `.`, `_`, `~`, `@`, `-`")
    secret, line = new_token(name, tenant)
    if output is OutputFormat.JSON:
        print_json({"token": secret, "name": name, "tenant": tenant, "line": line})
        return
    typer.echo(f"token  {secret}")
    typer.echo(f"line   {line}")
    typer.echo("Give the token to the client; put the line into TRACKER_TOKENS or the file TRACKER_TOKENS_FILE.")


def new_token(name: str, tenant: str) -> tuple[str, str]:
    """Make a token of 256 random bits. Returns the token and its line for TRACKER_TOKENS."""
    secret = f"tracker_{secrets.token_urlsafe(32)}"
    return secret, token_line(name, tenant, secret)


def token_line(name: str, tenant: str, secret: str) -> str:
    """The line of TRACKER_TOKENS for a token: `name:tenant:sha256`."""
    return f"{name}:{tenant}:{sha256(secret.encode()).hexdigest()}"
