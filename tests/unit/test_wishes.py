"""What a `Prefer` header asks for."""

import pytest
from aiohttp.test_utils import make_mocked_request
from multidict import CIMultiDict

from tracker.api.prefer import NONE, Wishes, applied, wishes_of


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], NONE),
        ([""], NONE),
        (["return=minimal"], Wishes(minimal=True)),
        (["return=Representation"], Wishes(minimal=False)),
        (["return=both, handling=loose, wait=soon"], NONE),
        (["handling=strict"], Wishes(strict=True)),
        (["handling=lenient; x=y", "return=minimal"], Wishes(minimal=True, strict=False)),
        (["return=minimal, return=representation"], Wishes(minimal=True)),
        (["respond-async, wait=10"], Wishes(respond_async=True, wait=10)),
        (["Respond-Async", "wait=61"], Wishes(respond_async=True, wait=60)),
        (["wait=0"], Wishes(wait=0)),
    ],
)
def test_preferences_are_read_and_what_makes_no_sense_is_none(lines: list[str], found: Wishes) -> None:
    headers = CIMultiDict([("Prefer", line) for line in lines])
    assert wishes_of(make_mocked_request("POST", "/", headers=headers)) == found


def test_what_is_applied_is_named_in_one_header() -> None:
    assert applied([]) == NONE.applied() == {}
    wishes = Wishes(minimal=True, strict=False, respond_async=True, wait=5)
    assert wishes.applied("respond-async", "wait=5") == {
        "Preference-Applied": "respond-async, wait=5, return=minimal, handling=lenient"
    }
