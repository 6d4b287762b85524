"""Which errors of Redis mean that a permission is missing, and what becomes of them."""

import pytest
from redis.exceptions import NoPermissionError, ResponseError

from tracker.errors import Unavailable
from tracker.store.permissions import is_refusal
from tracker.store.scripts import answering

REFUSALS = [
    NoPermissionError("User tracker-api has no permissions to run the 'info' command"),
    ResponseError(
        "ACL failure in script: User x has no permissions to run the 'zadd' command script: 1f, on @user_script:3."
    ),
]
OTHERS = [ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"), OSError("ACL"), None]


@pytest.mark.parametrize("error", REFUSALS)
async def test_a_missing_permission_is_an_outage_of_the_store(
    error: ResponseError, capsys: pytest.CaptureFixture[str]
) -> None:
    assert is_refusal(error)
    with pytest.raises(Unavailable, match="refuses"):
        async with answering():
            raise error
    assert "store_refuses" in "".join(capsys.readouterr())


@pytest.mark.parametrize("error", OTHERS)
def test_another_error_is_none(error: Exception | None) -> None:
    assert not is_refusal(error)
