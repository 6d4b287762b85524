"""What a `Prefer` header asks for."""

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from tracker.api.prefer import NONE, Preferences, preference_applied, preferences_of


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], NONE),
        ([""], NONE),
        (["return=minimal"], Preferences(minimal=True)),
        (["return=Representation"], Preferences(minimal=False)),
        (["return=both, handling=loose, wait=soon"], NONE),
        (["handling=strict"], Preferences(strict=True)),
        (["handling=lenient; x=y", "return=minimal"], Preferences(minimal=True, strict=False)),
        (["return=minimal, return=representation"], Preferences(minimal=True)),
        (["respond-async, wait=10"], Preferences(respond_async=True, wait=10)),
        (["Respond-Async", "wait=61"], Preferences(respond_async=True, wait=60)),
        (["wait=0"], Preferences(wait=0)),
    ],
)
def test_preferences_are_read_and_what_makes_no_sense_is_none(lines: list[str], found: Preferences) -> None:
    headers = CIMultiDict([("Prefer", line) for line in lines])
    assert preferences_of(make_mocked_request("POST", "/", headers=headers)) == found


def test_what_is_applied_is_named_in_one_header() -> None:
    assert preference_applied([]) == NONE.applied_to_write() == {}
    preferences = Preferences(minimal=True, strict=False, respond_async=True, wait=5)
    assert preferences.applied_to_write("respond-async", "wait=5") == {
        "Preference-Applied": "respond-async, wait=5, return=minimal, handling=lenient"
    }
