"""The headers of a batch's requests that say who sent them, and from where."""

import pytest
from aiohttp.test_utils import make_mocked_request

from tracker.api.batch.batch_body import read_batch
from tracker.api.batch.subrequest import SubrequestReader

ORIGIN = ("Authorization", "Host", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto")


@pytest.mark.parametrize("name", ORIGIN)
async def test_a_request_of_a_batch_has_the_origin_of_the_batch(name: str) -> None:
    batch = make_mocked_request("POST", "/$batch", headers={name: "the batch's"})
    alone = make_mocked_request("POST", "/$batch")
    part = {"id": "1", "method": "GET", "url": "/x", "headers": {name.lower(): "forged"}}
    [request] = read_batch({"requests": [part]})
    assert SubrequestReader(batch).read(request)[0].headers.getall(name) == ["the batch's"]
    assert name not in SubrequestReader(alone).read(request)[0].headers
