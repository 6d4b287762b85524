"""The type `#microsoft.graph.playPromptOperation`, which plays WAV prompts in real time."""

import asyncio
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import accumulate, chain, count
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from tracker import Context, Operation, Rejected, ResultInfo, Retry, handles
from tracker.config import Settings, load
from tracker.domain.operation import DONE
from workers.handlers import sources
from workers.handlers.media import PLAYABLE, FrameCounter, MediaError

STEP_SECONDS = 0.1
"""Time between two progress reports, in seconds of sound."""


class _Nested(BaseModel):
    """A part of a Graph type. Members that are not declared here are ignored, such as `@odata.type` and newer ones."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class MediaInfo(_Nested):
    """Graph's `mediaInfo`. `uri` says where the WAV file is. `resourceId` is the caller's own name for it."""

    uri: str = Field(min_length=1, max_length=2048, examples=["welcome.wav"])
    resource_id: str | None = None


class MediaPrompt(_Nested):
    """Graph's `mediaPrompt`."""

    media_info: MediaInfo


class PlayPrompt(Operation, type="#microsoft.graph.playPromptOperation"):
    """Plays prompts in their order. With `loop` it repeats them until it is canceled or its time is over."""

    canceled_result: ClassVar[ResultInfo] = ResultInfo(code=400, subcode=8508, message="The operation was canceled.")
    canceled_members: ClassVar[Mapping[str, Any]] = MappingProxyType({"completionReason": "mediaOperationCanceled"})

    prompts: list[MediaPrompt] = Field(min_length=1, max_length=20)
    loop: bool = False
    completion_reason: (
        Literal["unknown", "completedSuccessfully", "mediaOperationCanceled", "unknownFutureValue"] | None
    ) = Field(None, json_schema_extra={"readOnly": True})


@handles(PlayPrompt, run_within="4h")
async def play_prompt(operation: PlayPrompt, context: Context) -> ResultInfo:
    """Read all prompts, then play them. Only the length of each is kept.

    Reading comes first, so that a prompt that cannot be played fails the operation before any sound. Raises Rejected,
    which names the prompt and says what was found, and Retry when the server of a prompt does not answer.
    """
    operation.completion_reason = "unknown"
    settings = load()
    uris = [prompt.media_info.uri for prompt in operation.prompts]
    clips = [await _frames(number, uri, settings) for number, uri in enumerate(uris, 1)]
    await Player(clips, speed=settings.playback_speed).play(context, loop=operation.loop)
    operation.completion_reason = "completedSuccessfully"
    return DONE


async def _frames(number: int, uri: str, settings: Settings) -> int:
    name = f"prompt {number} ({sources.shown(uri)})"
    try:
        counter = FrameCounter()
        await sources.read(uri, settings, counter.feed)
        return counter.frames()
    except MediaError as error:
        raise Rejected(f"{name}: {error}", error.subcode) from error
    except sources.SourceError as error:
        raise Retry(f"{name}: {error}") from error


class Player:
    """Plays clips without a sound device: it waits as long as they last. A clip is given as its number of frames."""

    def __init__(
        self,
        clips: Iterable[int],
        *,
        speed: float,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._ends = list(accumulate(clips))
        self._total = self._ends[-1]
        self._frames_a_second = PLAYABLE.rate * speed
        self._now, self._sleep = now, sleep

    async def play(self, context: Context, *, loop: bool) -> None:
        """Return when the last frame's time has come; with `loop`, never.

        Each frame's time is counted from the start, so that slow progress reports do not add up.
        """
        begun = self._now()
        for played in self._positions(loop=loop):
            await self._sleep(max(0.0, begun + played / self._frames_a_second - self._now()))
            if loop:
                await context.progress(None, f"pass {played // self._total + 1}")
            else:
                await context.progress(100 * played / self._total, self._prompt_at(played))

    def _positions(self, *, loop: bool) -> Iterable[int]:
        """How many frames have been played at each progress report."""
        step = max(1, round(STEP_SECONDS * self._frames_a_second))
        return count(step, step) if loop else chain(range(step, self._total, step), [self._total])

    def _prompt_at(self, played: int) -> str:
        return f"prompt {bisect_right(self._ends, played - 1) + 1} of {len(self._ends)}"
