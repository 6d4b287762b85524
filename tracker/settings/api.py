"""The settings of the API: where it listens, whom it trusts, and what it serves at most."""

from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from tracker.settings.kinds import KIB, MIB, Bytes, Words

DIALECTS = ("google", "ogc")


class ApiSettings(BaseSettings):
    """The settings of the API: where it listens, whom it trusts, and what it serves at most."""

    host: str = Field("127.0.0.1", description="Address on which the API listens.")
    port: int = Field(8080, ge=0, le=65535, description="Port on which the API listens; 0 chooses a free port.")
    api_processes: int = Field(1, ge=1, le=256, description="How many processes of the API share its port.")
    public_url: str = Field(
        "",
        description="Address of the API as clients see it, for absolute links. Without a public URL,"
        " links name the host of the request.",
    )
    trusted_proxies: Words = Field(
        (),
        description="Addresses or networks of your proxies. The API reads `Forwarded`, `X-Forwarded-Proto` and"
        " `X-Forwarded-Host` only in requests from these addresses.",
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
    tokens_file: Path | None = Field(None, description="File with more lines of the form of `TRACKER_TOKENS`.")
    require_if_match: bool = Field(
        default=False,
        description="Whether a PATCH or DELETE of an operation in Graph's dialect without `If-Match` is answered 428.",
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

    @field_validator("public_url")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")
