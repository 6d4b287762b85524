"""Settings: the only reader of the environment.

`rq` reads `RQ_KEY_PREFIX` when it is imported, so `load()` sets it first when one hash tag for all keys is
asked for; every process calls `load()` before it imports anything of rq's.
"""

import os
import re
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tracker.durations import LONGEST
from tracker.errors import ConfigurationError

DAY = 86400.0
BUILT_IN_TYPES = ("workers.handlers.acknowledge", "workers.handlers.play_prompt")
DIALECTS = ("google", "ogc")
DEFAULT_REDIS_URL = "redis://127.0.0.1:6379/0"

_PREFIX = "TRACKER_"
_NO_SETTINGS = {"TRACKER_URL", "TRACKER_TOKEN", "TRACKER_DEV_TOKEN"}
"""What the command line reads by itself."""

Words = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """One process's settings. Every name is the environment variable in lower case.

    Durations are in seconds. The README's table lists them all; a test compares.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="ignore")

    redis_url: str = Field(DEFAULT_REDIS_URL, validation_alias="REDIS_URL", description="the Redis or Valkey to use")
    hash_tag: str = Field("", pattern=r"^[A-Za-z0-9_-]{0,32}$", description="one Cluster hash tag for every key")
    rq_key_prefix: str = Field("rq", validation_alias="RQ_KEY_PREFIX", description="RQ's own prefix, as RQ reads it")
    types: Words = Field((), description="modules with operation types, separated by commas")
    unknown_types: Literal["refuse", "accept"] = Field("refuse", description="what the API does with a type it lacks")
    url_handlers: Words = Field((), description="types whose handler is a URL: words of `#type=URL`")
    url_secrets: Words = Field((), repr=False, description="what signs URL handlers' requests: `[#type=]whsec_…`")

    host: str = Field("127.0.0.1", description="address the API listens on")
    port: int = Field(8080, ge=0, le=65535, description="port the API listens on; 0 chooses a free one")
    api_processes: int = Field(1, ge=1, le=256, description="processes of the API that share its port")
    public_url: str = Field("", description="the API's address as clients see it, for absolute links")
    trusted_proxies: Words = Field((), description="proxies whose Forwarded and X-Forwarded-* headers count")
    dialects: Words = Field(DIALECTS, description="other dialects that the API speaks: `google`, `ogc`")
    auth: Literal["tokens", "none"] = Field("tokens", description="`none` is allowed on a loopback address only")
    require_if_match: bool = Field(default=False, description="PATCH and DELETE without `If-Match` are 428")
    tokens: str = Field("", description="lines of `name:tenant:sha256-of-token`")
    tokens_file: Path | None = Field(None, description="a file of such lines")

    streams: int = Field(1000, ge=0, description="streams of events that one API process serves at once")
    retention: float = Field(7 * DAY, gt=0, le=LONGEST, description="seconds a finished operation is kept")
    tombstone: float = Field(7 * DAY, ge=0, le=LONGEST, description="seconds its id answers 410 after that")
    idempotency: float = Field(DAY, ge=60, le=LONGEST, description="seconds an idempotency key is remembered")
    drain_seconds: float = Field(
        25.0, ge=0, le=LONGEST, description="seconds a stopping worker waits for its operations"
    )
    worker_concurrency: int = Field(100, ge=0, le=10_000, description="coroutine operations a worker runs at once")
    worker_processes: int = Field(
        default_factory=lambda: os.cpu_count() or 1, ge=0, le=1000, description="plain functions a worker runs at once"
    )
    recycle_after: int = Field(1000, ge=1, description="operations after which a plain function's process is replaced")
    memory_limit: int = Field(0, ge=0, description="MiB above which a handlers' process is replaced; 0: none")
    spool_dir: Path | None = Field(None, description="directory for outcomes that wait for Redis")

    media_dir: Path | None = Field(None, description="directory that prompts may be read from")
    media_hosts: Words = Field((), description="hosts (`name` or `name:port`) that prompts may be fetched from")
    media_max_bytes: int = Field(20 * 1024 * 1024, gt=0, description="largest prompt accepted")
    playback_speed: float = Field(1.0, gt=0, le=1000, description="1 plays prompts in real time, 2 twice as fast")

    log_format: Literal["auto", "human", "json"] = Field("auto", description="`auto`: human on a terminal")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level logged")
    test_clock: bool = Field(default=False, description="scripts honour a time offset; for tests only")

    @field_validator(
        "types", "url_handlers", "url_secrets", "trusted_proxies", "media_hosts", "dialects", mode="before"
    )
    @classmethod
    def _split(cls, value: object) -> object:
        return words(value) if isinstance(value, str) else value

    @field_validator("dialects")
    @classmethod
    def _are_spoken(cls, value: tuple[str, ...]) -> tuple[str, ...]:
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
        """What every key of ours starts with."""
        return f"{{{self.hash_tag}}}tracker" if self.hash_tag else "tracker"

    @cached_property
    def redis_address(self) -> str:
        """The Redis URL without its password and options, for logs and messages."""
        without_options = re.split(r"[?#]", self.redis_url, maxsplit=1)[0]
        return re.sub(r"(?<=://)[^/]*@", "", without_options)

    @cached_property
    def type_modules(self) -> tuple[str, ...]:
        """The built-in types' modules, then the team's own."""
        return (*BUILT_IN_TYPES, *self.types)


def words(text: str) -> tuple[str, ...]:
    """The words of a list that commas or line ends separate."""
    return tuple(word.strip() for word in re.split(r"[,\n]", text) if word.strip())


def load() -> Settings:
    """Read the settings from the environment.

    Raises ConfigurationError with one line per wrong variable, or when a hash tag is asked for after rq was
    imported without it.
    """
    try:
        settings = Settings()
    except ValidationError as error:
        lines = [f"{_variable(str(item['loc'][0]))}: {item['msg']}" for item in error.errors()]
        raise ConfigurationError("; ".join(lines)) from None
    if not settings.hash_tag:
        return settings
    prefix = f"{{{settings.hash_tag}}}rq"
    _give_rq_the_hash_tag(prefix)
    return settings.model_copy(update={"rq_key_prefix": prefix})


def misspelt() -> Iterator[tuple[str, str]]:
    """Variables that are no settings but much like one, each with the one that was probably meant."""
    fields = Settings.model_fields
    known = {_variable(str(field.validation_alias or name)) for name, field in fields.items()} | _NO_SETTINGS
    words = [name.removeprefix(_PREFIX) for name in known if name.startswith(_PREFIX)]
    for name in sorted(os.environ):
        if name.upper().startswith(_PREFIX) and name.upper() not in known:
            for word in get_close_matches(name.upper().removeprefix(_PREFIX), words, n=1, cutoff=0.8):
                yield name, f"{_PREFIX}{word}"


def _variable(field: str) -> str:
    return field if field.isupper() else f"{_PREFIX}{field.upper()}"


def _give_rq_the_hash_tag(prefix: str) -> None:
    if "rq.defaults" in sys.modules and os.environ.get("RQ_KEY_PREFIX") != prefix:
        raise ConfigurationError("TRACKER_HASH_TAG was set after rq had been imported")
    os.environ["RQ_KEY_PREFIX"] = prefix
