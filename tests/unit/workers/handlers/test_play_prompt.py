"""Playing a prompt: how long it takes, what it reports, and which members it takes."""

import asyncio
from typing import Any

import pytest

from tracker.domain.type_modules import load_types
from tracker.domain.type_registry import OperationType
from tracker.errors import Invalid
from workers.handlers import play_prompt


class Clock:
    """Time that passes only by sleeping and by slow reports."""

    def __init__(self, report_seconds: float = 0.0) -> None:
        self.time = 100.0
        self.report_seconds = report_seconds
        self.reports: list[tuple[float | None, str]] = []

    async def sleep(self, seconds: float) -> None:
        self.time += seconds

    async def progress(self, percent: float | None = None, detail: str = "") -> None:
        self.time += self.report_seconds
        self.reports.append((percent, detail))
        if detail == "pass 3":
            raise asyncio.CancelledError


async def play(clock: Any, clips: list[int], *, speed: float = 1.0, loop: bool = False) -> float:
    player = play_prompt.Player(clips, speed=speed, now=lambda: clock.time, sleep=clock.sleep)
    begun = clock.time
    await player.play(clock, loop=loop)
    return float(clock.time - begun)


@pytest.mark.parametrize(("speed", "seconds"), [(1, 1.05), (2, 0.525), (0.5, 2.1), (1000, 0.00105)])
async def test_playing_takes_the_clips_length_divided_by_the_speed(speed: float, seconds: float) -> None:
    assert await play(Clock(), [8_000, 8_800], speed=speed) == pytest.approx(seconds)


async def test_slow_reports_do_not_make_the_clip_longer() -> None:
    clock = Clock(report_seconds=0.03)
    assert await play(clock, [16_000]) == pytest.approx(1.03)
    assert len(clock.reports) == 10


async def test_progress_is_counted_in_frames_over_all_prompts() -> None:
    clock = Clock()
    await play(clock, [3_200, 1_600, 1_600])
    assert clock.reports == [
        (25.0, "prompt 1 of 3"),
        (50.0, "prompt 1 of 3"),
        (75.0, "prompt 2 of 3"),
        (100.0, "prompt 3 of 3"),
    ]


async def test_a_loop_has_passes_instead_of_a_percentage_and_ends_by_cancel_only() -> None:
    clock = Clock()
    with pytest.raises(asyncio.CancelledError):
        await play(clock, [4_000], loop=True)
    assert clock.time == pytest.approx(100.5)
    assert clock.reports == [(None, "pass 1"), (None, "pass 1"), (None, "pass 2"), (None, "pass 2"), (None, "pass 3")]


@pytest.fixture
def entry() -> OperationType:
    return load_types([play_prompt.__name__])[play_prompt.PlayPrompt.odata_type]


def prompt(uri: str = "a.wav") -> dict[str, Any]:
    return {
        "@odata.type": "#microsoft.graph.mediaPrompt",
        "mediaInfo": {"@odata.type": "#microsoft.graph.mediaInfo", "uri": uri, "resourceId": None, "newer": [1]},
    }


def test_graphs_own_form_of_prompts_is_accepted_and_kept(entry: OperationType) -> None:
    members = {"prompts": [prompt()], "somethingElse": {"kept": True}}
    assert entry.validate(members) == {"loop": False, **members}


@pytest.mark.parametrize(
    ("members", "target"),
    [
        ({}, "prompts"),
        ({"prompts": []}, "prompts"),
        ({"prompts": [prompt()] * 21}, "prompts"),
        ({"prompts": [prompt(), {}]}, "prompts[1]/mediaInfo"),
        ({"prompts": [prompt("")]}, "prompts[0]/mediaInfo/uri"),
        ({"prompts": [prompt("x" * 2049)]}, "prompts[0]/mediaInfo/uri"),
        ({"prompts": [prompt()], "loop": 1}, "loop"),
    ],
)
def test_wrong_members_are_named(entry: OperationType, members: dict[str, Any], target: str) -> None:
    with pytest.raises(Invalid) as refused:
        entry.validate(members)
    assert refused.value.target == target


def test_a_canceled_prompt_ends_with_graphs_words(entry: OperationType) -> None:
    policy = entry.policy(retention=1, tombstone=1)
    assert (policy.canceled.code, policy.canceled.subcode) == (400, 8508)
    assert policy.canceled_members == {"completionReason": "mediaOperationCanceled"}
    assert play_prompt.PlayPrompt.result_members() == {"completionReason"}
