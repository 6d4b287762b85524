"""The settings of a process, read from environment variables.

RQ reads `RQ_KEY_PREFIX` when it is imported. If `TRACKER_HASH_TAG` is set, `load()` sets that variable. So every
process calls `load()` before it imports a module of RQ.
"""

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tracker.durations import LONGEST
from tracker.errors import ConfigurationError

DAY = 86400.0
BUILT_IN_TYPES = ("workers.handlers.acknowledge", "workers.handlers.play_prompt")
DIALECTS = ("google", "ogc")
DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"

_PREFIX = "TRACKER_"
_CLI_VARIABLES = {"TRACKER_URL", "TRACKER_TOKEN", "TRACKER_DEV_TOKEN"}
"""Variables that are no settings. Only the command line reads them."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Parts of a setting's row in docs/configuration.md: a unit beside its type, a text in place of its default."""

    unit: str = ""
    default: str = ""


Words = Annotated[tuple[str, ...], NoDecode]
Seconds = Annotated[float, Shown(unit="seconds")]


class Settings(BaseSettings):
    """The settings of one process. The variable of a setting is `TRACKER_` and the setting's name in capitals.

    The `description` of a setting is also its text in docs/configuration.md, which `make configuration` writes, and in
    `tracker COMMAND --help` for the option that overrides it.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="ignore")

    redis_url: str = Field(
        DEFAULT_REDIS_URL,
        validation_alias="REDIS_URL",
        description="Address of the Redis or Valkey server: `redis://`, `rediss://`, `unix://` or `sentinel://`.",
    )
    rq_key_prefix: str = Field(
        "rq", validation_alias="RQ_KEY_PREFIX", description="Prefix of RQ's keys. RQ reads the same variable."
    )
    hash_tag: str = Field(
        "",
        pattern=r"^[A-Za-z0-9_-]{0,32}$",
        description="Redis Cluster hash tag of every key, also of RQ's keys. With a tag, all keys are in one slot.",
    )

    types: Words = Field((), description="Modules that declare operation types. API and workers need the same modules.")
    unknown_types: Literal["refuse", "accept"] = Field(
        "refuse",
        description="What the API does with a create of an unknown type. `refuse`: it answers 400. `accept`: it stores"
        " the operation for a worker that has the type.",
    )
    url_handlers: Words = Field((), description="Operation types whose handler is a URL, each as `#type=URL`.")
    url_secrets: Words = Field(
        (),
        repr=False,
        description="Secrets that sign the requests to URL handlers: `whsec_…` for all types, `#type=whsec_…` for one"
        " type. Only workers need them.",
    )

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

    retention: Seconds = Field(
        7 * DAY, gt=0, le=LONGEST, description="The time for which an operation can be read after it has ended."
    )
    tombstone: Seconds = Field(
        7 * DAY,
        ge=0,
        le=LONGEST,
        description="The time for which the id of an operation answers 410 after the operation is deleted or its"
        " retention has ended.",
    )
    idempotency: Seconds = Field(
        DAY,
        ge=60,
        le=LONGEST,
        description="The shortest time for which a create's `Idempotency-Key`, `Repeatability-Request-ID` or"
        " `Operation-Id` is remembered.",
    )

    worker_concurrency: int = Field(
        100,
        ge=0,
        le=10_000,
        description="How many coroutine handlers a worker runs at once at most, on one event loop.",
    )
    worker_processes: Annotated[int, Shown(default="number of cores")] = Field(
        default_factory=lambda: os.cpu_count() or 1,
        ge=0,
        le=1000,
        description="How many plain functions a worker runs at once at most, each in a process of its own.",
    )
    worker_apart: int = Field(
        8, ge=1, le=1000, description="How many more operations a worker runs at once, each in a process of its own."
    )
    block_limit: Seconds = Field(
        5.0,
        ge=0,
        le=LONGEST,
        description="After how long a worker ends a process in which a coroutine blocks the event loop of others; at"
        " least 1 second. 0 means never.",
    )
    drain_seconds: Seconds = Field(
        25.0,
        ge=0,
        le=LONGEST,
        description="The longest time that a stopping worker waits for the operations that it runs. Then the worker"
        " hands these operations back to the queue.",
    )
    recycle_after: int = Field(
        1000, ge=1, description="How many operations a process for plain functions runs before a new one replaces it."
    )
    memory_limit: Annotated[int, Shown(unit="MiB")] = Field(
        0,
        ge=0,
        description="Resident memory above which a process for handlers is replaced, once no operation runs in that"
        " process. 0 means no limit.",
    )
    spool_dir: Path | None = Field(
        None,
        description="Directory where a worker stores outcomes while Redis cannot be reached. Without a directory, the"
        " worker keeps these outcomes in memory only.",
    )

    media_dir: Path | None = Field(
        None, description="Directory from which the handler of `playPrompt` may read prompts."
    )
    media_hosts: Words = Field(
        (), description="Hosts from which the handler of `playPrompt` may fetch prompts, each as `name` or `name:port`."
    )
    media_max_bytes: Annotated[int, Shown(unit="bytes")] = Field(
        20 * 1024 * 1024, gt=0, description="Size of the largest prompt that the handler of `playPrompt` accepts."
    )
    playback_speed: float = Field(
        1.0, gt=0, le=1000, description="How fast prompts are played: 1 is real time, 2 is twice as fast."
    )

    log_format: Literal["auto", "human", "json"] = Field(
        "auto", description="Form of the log. `auto` is `human` on a terminal and `json` elsewhere."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="The lowest level of log lines that are written."
    )
    test_clock: bool = Field(
        default=False, description="Whether the scripts in Redis add a stored offset to the time. For tests only."
    )

    @field_validator(
        "types", "url_handlers", "url_secrets", "trusted_proxies", "media_hosts", "dialects", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return words(value) if isinstance(value, str) else value

    @field_validator("dialects")
    @classmethod
    def _are_known_dialects(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [word for word in value if word not in DIALECTS]:
            raise ValueError(f"{unknown[0]} is not one of {', '.join(DIALECTS)}")
        return value

    @field_validator("redis_url")
    @classmethod
    def _is_redis(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://", "unix://", "sentinel://")):
            raise ValueError("must start with redis://, rediss://, unix:// or sentinel://")
        return value

    @field_validator("media_dir")
    @classmethod
    def _is_directory(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_dir():
            raise ValueError(f"{value} is not a directory")
        return value

    @field_validator("public_url")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must start with http:// or https://")
        return value.rstrip("/")

    @cached_property
    def key_prefix(self) -> str:
        """The prefix of this service's own keys."""
        return f"{{{self.hash_tag}}}tracker" if self.hash_tag else "tracker"

    @cached_property
    def redis_address(self) -> str:
        """The Redis URL without its password and options, for logs and messages."""
        without_options = re.split(r"[?#]", self.redis_url, maxsplit=1)[0]
        return re.sub(r"(?<=://)[^/]*@", "", without_options)

    @cached_property
    def type_modules(self) -> tuple[str, ...]:
        """The modules of the built-in types, and then the modules in `TRACKER_TYPES`."""
        return (*BUILT_IN_TYPES, *self.types)


def words(text: str) -> tuple[str, ...]:
    """The words of a list that commas or line ends separate."""
    return tuple(word.strip() for word in re.split(r"[,\n]", text) if word.strip())


def load() -> Settings:
    """Read the settings from the environment.

    Raises ConfigurationError, which names every wrong variable, or says that RQ was imported with another prefix.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        lines = [f"{_variable(str(item['loc'][0]))}: {item['msg']}" for item in error.errors()]
        raise ConfigurationError("; ".join(lines)) from None
    if not settings.hash_tag:
        return settings
    prefix = f"{{{settings.hash_tag}}}rq"
    _set_prefix_of_rq(prefix)
    return settings.model_copy(update={"rq_key_prefix": prefix})


def variables() -> dict[str, FieldInfo]:
    """Each setting by the name of its environment variable, in the order of the page of settings."""
    return {_variable(str(field.validation_alias or name)): field for name, field in Settings.model_fields.items()}


def misspelt() -> Iterator[tuple[str, str]]:
    """Variables whose names are close to that of a setting, each with the name that was probably meant."""
    known = variables().keys() | _CLI_VARIABLES
    known_names = [name.removeprefix(_PREFIX) for name in known if name.startswith(_PREFIX)]
    for name in sorted(os.environ):
        if name.upper().startswith(_PREFIX) and name.upper() not in known:
            for meant in get_close_matches(name.upper().removeprefix(_PREFIX), known_names, n=1, cutoff=0.8):
                yield name, f"{_PREFIX}{meant}"


def _variable(field: str) -> str:
    return field if field.isupper() else f"{_PREFIX}{field.upper()}"


def _set_prefix_of_rq(prefix: str) -> None:
    if "rq.defaults" in sys.modules and os.environ.get("RQ_KEY_PREFIX") != prefix:
        raise ConfigurationError("TRACKER_HASH_TAG was set after rq had been imported")
    os.environ["RQ_KEY_PREFIX"] = prefix
