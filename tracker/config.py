"""The settings of a process, read from environment variables.

RQ reads `RQ_KEY_PREFIX` when it is imported. If `TRACKER_HASH_TAG` is set, `load()` sets that variable. So every
process calls `load()` before it imports a module of RQ.
"""

import os
import re
import sys
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cached_property
from typing import Annotated, Literal

from pydantic import Field, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from tracker.errors import ConfigurationError
from tracker.settings.api import ApiSettings
from tracker.settings.kinds import Shown, Words
from tracker.settings.store import StoreSettings
from tracker.settings.worker import WorkerSettings

BUILT_IN_TYPES = ("workers.handlers.acknowledge", "workers.handlers.play_prompt")

_PREFIX = "TRACKER_"
_CLI_VARIABLES = {"TRACKER_URL", "TRACKER_TOKEN", "TRACKER_DEV_TOKEN"}
"""Variables that are no settings. Only the command line reads them."""


class _CommonSettings(BaseSettings):
    """The settings that API and workers share, except for those of the store."""

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

    tenant_most: Annotated[int, Shown(unit="per cent")] = Field(
        90,
        ge=1,
        le=100,
        description="How much of a resource one tenant takes at most, if there are several tenants: a worker's slots of"
        " a kind, of which at least one stays free for others, and open streams, waiting requests and bytes of answers"
        " of an API process.",
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


class Settings(_CommonSettings, WorkerSettings, ApiSettings, StoreSettings):
    """The settings of one process. The variable of a setting is `TRACKER_` and the setting's name in capitals.

    The classes below it have the settings by subject. Their order is that of the page of settings, the last one first.

    The `description` of a setting is also its text in docs/configuration.md, which `make configuration` writes, and in
    `tracker COMMAND --help` for the option that overrides it.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, frozen=True, extra="ignore")

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
