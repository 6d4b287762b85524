"""The settings of the API: where it listens, whom it trusts, and what it serves at most."""

import re
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from tracker.durations import LONGEST
from tracker.settings.kinds import KIB, MIB, Bytes, Seconds, Shown, Words

DIALECTS = ("google", "ogc")
LONGEST_PUBLIC_URL = 1000
"""How many characters `TRACKER_PUBLIC_URL` has at most, so that links are short enough to be followed."""
_HOST_NAME = re.compile(r"[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*\.?", re.ASCII)


class ApiSettings(BaseSettings):
    """The settings of the API: where it listens, whom it trusts, and what it serves at most."""

    host: str = Field("127.0.0.1", description="Address on which the API listens.")
    port: int = Field(8080, ge=0, le=65535, description="Port on which the API listens; 0 chooses a free port.")
    api_processes: int = Field(1, ge=1, le=256, description="How many processes of the API share its port.")
    public_url: str = Field(
        "",
        description="Address of the API as clients see it, for absolute links. Without a public URL,"
        " links name the host of the request. With it, requests for other hosts are answered 400, except for the hosts"
        " in `TRACKER_ALLOWED_HOSTS`, `localhost` and loopback addresses.",
    )
    allowed_hosts: Words = Field(
        (),
        description="Hosts for which the API answers, beside the host of `TRACKER_PUBLIC_URL`, `localhost` and loopback"
        " addresses: names or addresses without a port, `*.example.org` for every name below `example.org`, `*` for"
        " any host. When this setting and `TRACKER_PUBLIC_URL` are empty, the API answers for any host, but with"
        " `TRACKER_AUTH=none` only for `localhost` and loopback addresses.",
    )
    trusted_proxies: Words = Field(
        (),
        description="Addresses or networks of your proxies. The API reads `Forwarded`, `X-Forwarded-For`,"
        " `X-Forwarded-Proto`, `X-Forwarded-Host`, `X-Forwarded-Port` and `X-Forwarded-Prefix` only in requests from"
        " these addresses.",
    )
    dialects: Words = Field(
        DIALECTS, description="Dialects that the API speaks beside Graph's: `google`, `ogc`. An empty value means none."
    )
    auth: Literal["tokens", "none"] = Field(
        "tokens",
        description="Whether requests need a bearer token. `none` is allowed on a loopback address only.",
    )
    tokens: str = Field(
        "",
        description="Tokens that the API accepts: lines of `name:tenant:sha256-of-token`, as `tracker token` prints"
        " them.",
    )
    tokens_file: Path | None = Field(
        None,
        description="File with more lines of the form of `TRACKER_TOKENS`. The API reads the file again when the file"
        " changes.",
    )
    wrong_tokens: int = Field(
        20,
        ge=1,
        description="How many wrong tokens of one address within a minute are answered 401. Further wrong tokens of"
        " this address are answered 429. A known token is never refused.",
    )
    require_if_match: bool = Field(
        default=False,
        description="Whether a PATCH or DELETE of an operation in Graph's dialect without `If-Match` is answered 428.",
    )
    connections: int = Field(
        10_000,
        ge=1,
        description="How many connections one API process serves at most. Fewer if the process may open fewer files."
        " A further connection is answered 503, or 200 to a health probe.",
    )
    connections_per_address: Annotated[int, Shown(default="half of `TRACKER_CONNECTIONS`")] = Field(
        0,
        ge=0,
        description="How many connections one API process serves at most to one client's address, or to one /64 network"
        " of IPv6. A trusted proxy has no limit; each of its requests counts for its client's address.",
    )
    header_timeout: Seconds = Field(
        10.0, ge=0.1, le=LONGEST, description="The longest time in which a client sends the headers of a request."
    )
    idle_timeout: Seconds = Field(
        75.0,
        ge=1,
        le=LONGEST,
        description="The time after which the API closes a connection on which no request is served. Let your proxy"
        " close idle connections earlier.",
    )
    least_rate: Annotated[int, Shown(unit="bytes per second")] = Field(
        1024,
        ge=0,
        description="The lowest rate at which a client sends a body or reads a response, after 10 seconds. 0 means"
        " no limit.",
    )
    streams: int = Field(
        1000,
        ge=0,
        description="How many streams of events one API process serves at most. A further stream is answered 503.",
    )
    waits: int = Field(
        20_000,
        ge=0,
        description="How many requests with `Prefer: wait` or `:wait` one API process holds at most. A further one is"
        " answered 503.",
    )
    answer_bytes: Bytes = Field(
        8 * MIB,
        ge=256 * KIB,
        description="How long one answer with a list may be, and the answer to one `$batch`. A list that is longer ends"
        " with a link to its next page. It may be longer by one operation.",
    )
    answers_bytes: Bytes = Field(
        256 * MIB,
        ge=1 * MIB,
        description="How long all answers are together that one API process makes or has not sent yet. Lists end early"
        " when there is no room left; a list or `$batch` that gets no room within a few seconds is answered 503.",
    )
    stream_bytes: Bytes = Field(
        128 * KIB,
        ge=16 * KIB,
        description="How many bytes of events may wait for the reader of one stream. A slower reader gets its events"
        " from the stored history, and loses its connection when they are not in there any more.",
    )
    streams_bytes: Bytes = Field(
        64 * MIB,
        ge=1 * MIB,
        description="How many bytes of events may wait in one API process for the readers of all streams.",
    )

    @field_validator("dialects")
    @classmethod
    def _are_known_dialects(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [word for word in value if word not in DIALECTS]:
            raise ValueError(f"{unknown[0]} is not one of {', '.join(DIALECTS)}")
        return value

    @field_validator("allowed_hosts")
    @classmethod
    def _are_hosts(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for word in value:
            if word != "*" and not _is_name_or_address(word.removeprefix("*.")):
                raise ValueError(f"{word} is not a host name or an address without a port")
        return value

    @field_validator("public_url")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        if len(value) > LONGEST_PUBLIC_URL:
            raise ValueError(f"must have at most {LONGEST_PUBLIC_URL} characters")
        return value.rstrip("/")


def _is_name_or_address(word: str) -> bool:
    if _HOST_NAME.fullmatch(word):
        return True
    try:
        ip_address(word.strip("[]"))
    except ValueError:
        return False
    return True
