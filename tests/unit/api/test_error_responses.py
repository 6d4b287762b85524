"""HTTP statuses of errors, and Graph's codes for statuses."""

import pytest

from tracker import errors
from tracker.api.error_responses import status_of
from tracker.errors import status_word


def _tree(base: type[errors.TrackerError]) -> list[type[errors.TrackerError]]:
    return [base, *(cls for child in base.__subclasses__() for cls in _tree(child))]


@pytest.mark.parametrize("error", [cls for cls in _tree(errors.TrackerError) if cls.__module__ == "tracker.errors"])
def test_the_status_of_every_error_has_the_errors_own_word(error: type[errors.TrackerError]) -> None:
    assert status_word(status_of(error("x"))) == error.code


@pytest.mark.parametrize(
    ("status", "word"),
    [
        (400, "badRequest"),
        (404, "notFound"),
        (405, "methodNotAllowed"),
        (406, "notAcceptable"),
        (413, "payloadTooLarge"),
        (415, "unsupportedMediaType"),
        (500, "internalServerError"),
        (200, "ok"),
        (499, "499"),
        (-1, "-1"),
    ],
)
def test_a_status_has_graphs_word(status: int, word: str) -> None:
    assert status_word(status) == word
