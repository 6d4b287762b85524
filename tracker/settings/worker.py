"""The settings of workers, and of the handlers that come with the tracker."""

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings

from tracker.durations import LONGEST
from tracker.settings.kinds import MIB, Bytes, Seconds, Shown, Words


class WorkerSettings(BaseSettings):
    """The settings of workers, and of the handlers that come with the tracker."""

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
    media_max_bytes: Bytes = Field(
        20 * MIB, gt=0, description="Size of the largest prompt that the handler of `playPrompt` accepts."
    )
    playback_speed: float = Field(
        1.0, gt=0, le=1000, description="How fast prompts are played: 1 is real time, 2 is twice as fast."
    )

    @field_validator("media_dir")
    @classmethod
    def _is_directory(cls, value: Path | None) -> Path | None:
        if value is not None and not value.is_dir():
            raise ValueError(f"{value} is not a directory")
        return value
