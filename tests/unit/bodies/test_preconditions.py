"""`If-Match` and `If-None-Match` against a record's revision."""

import pytest

from tests.support.records import make_record
from tracker.bodies.preconditions import Preconditions, etag_matches
from tracker.errors import PreconditionFailed

RECORD = make_record(revision=5)


@pytest.mark.parametrize(
    "header", ['W/"5"', '"5"', "*", '"a", W/"5"', '"a" ,"5","b"', 'x, "5"', ',, "5"', '"a,b", "5"']
)
def test_a_list_names_the_revision_weakly_compared(header: str) -> None:
    assert etag_matches(header, RECORD)


@pytest.mark.parametrize("header", ["", ",,", "5", 'W/"6"', '"a,5,b"', 'w/"5"', '"5', "**"])
def test_what_does_not_name_the_revision(header: str) -> None:
    assert not etag_matches(header, RECORD)


@pytest.mark.parametrize(
    ("sent", "target"),
    [
        (Preconditions(), None),
        (Preconditions(if_match='"5"', if_none_match='"6"'), None),
        (Preconditions(if_match=""), "If-Match"),
        (Preconditions(if_match='"6"', if_none_match='"5"'), "If-Match"),
        (Preconditions(if_match='"5"', if_none_match='"5"'), "If-None-Match"),
    ],
)
def test_both_must_hold_and_an_empty_list_names_nothing(sent: Preconditions, target: str | None) -> None:
    assert bool(sent) == (sent != Preconditions())
    if target is None:
        sent.check(RECORD)
    else:
        with pytest.raises(PreconditionFailed) as refused:
            sent.check(RECORD)
        assert refused.value.target == target
