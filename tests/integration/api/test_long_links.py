"""Links to next pages for options that are long: each link that is given can be followed."""

from typing import Any
from urllib.parse import quote

import pytest

from tests.support.api_client import COLLECTION, Api, open_api
from tracker.api.lengths import LONGEST_LINK
from tracker.config import Settings
from tracker.domain.operation import Json

WIDE = "漢字かな交じり文 "
LONG_FILTERS = {
    "ASCII": "id in (" + ",".join(f"'{number:08}'" for number in range(735)) + ")",
    "wide": " or ".join(f"startswith(clientContext,'{number} {WIDE * 4}')" for number in range(30)),
}


async def through_batch(api: Api, url: str) -> Json:
    """The body of a list, read by a batch."""
    answer = await api.post("/v1.0/$batch", json={"requests": [{"id": "1", "method": "GET", "url": url}]})
    (response,) = answer.json["responses"]
    assert response["status"] == 200, response
    body: Json = response["body"]
    return body


async def directly(api: Api, url: str) -> Json:
    """The body of a list, read by its URL."""
    answer = await api.get(url)
    assert answer.status == 200, answer.body
    return answer.json


@pytest.mark.parametrize("condition", LONG_FILTERS.values(), ids=LONG_FILTERS)
@pytest.mark.parametrize("follow", [through_batch, directly])
async def test_every_page_of_a_long_filter_is_reached(api: Api, condition: str, follow: Any) -> None:
    names = [f"{number:08}" for number in range(7)]
    for name in names:
        await api.created(id=name, clientContext=f"{int(name)} {WIDE * 4}")
    url = f"{COLLECTION}?$filter={condition}&$top=3&$count=true"
    assert len(url) <= 8190 < len(quote(url, safe="$'(),/=&?")) + len("&$skiptoken=") + 40
    page, found = await through_batch(api, url), []
    while True:
        assert page["@odata.count"] == 7
        found += [each["id"] for each in page["value"]]
        link = page.get("@odata.nextLink")
        if link is None:
            break
        assert link.isascii()
        assert len(link) <= LONGEST_LINK
        page = await follow(api, link)
    assert sorted(found) == names


async def test_another_process_follows_a_link_that_has_its_options_in_a_token(settings: Settings) -> None:
    async with open_api(settings) as first:
        for number in range(3):
            await first.created(id=f"{number:08}")
        page = await through_batch(first, f"{COLLECTION}?$filter={LONG_FILTERS['ASCII']}&$top=2")
        link = page["@odata.nextLink"].removeprefix(first.url)
    async with open_api(settings) as second:
        assert len((await directly(second, link))["value"]) == 1


async def test_options_that_fit_into_no_link_are_refused_before_the_list_is_read(api: Api) -> None:
    """The option is the same whether the list has another page or not."""
    noise = "".join(chr(0x4E00 + (number * 7919) % 20_000) for number in range(8000))
    requests = [{"id": "1", "method": "GET", "url": f"{COLLECTION}?$top=1&x={noise}"}]
    answer = await api.post("/$batch", json={"requests": requests})
    (response,) = answer.json["responses"]
    assert (response["status"], response["body"]["error"]["target"]) == (400, "x")
    assert "link" in response["body"]["error"]["message"]


async def test_a_long_target_that_is_taken_has_a_next_page_that_is_taken(api: Api) -> None:
    for name in "ab":
        await api.created(id=name)
    start = f"{COLLECTION}?$top=1&$filter=id%20ne%20'x'&x="
    page = await directly(api, start.ljust(8190, "y"))
    assert len((await directly(api, page["@odata.nextLink"]))["value"]) == 1
    assert (await api.get(start.ljust(8191, "y"))).status == 414


async def test_what_is_too_long_in_a_batch_is_refused_as_outside_of_it(api: Api) -> None:
    get = {"method": "GET", "url": COLLECTION}
    requests: list[Json] = [
        {**get, "url": COLLECTION.ljust(8191, "y")},
        {**get, "headers": {"x": "y" * 8192}},
        {**get, "headers": {f"x{number}": "y" for number in range(129)}},
        get,
    ]
    numbered = [{"id": str(number), **request} for number, request in enumerate(requests)]
    answer = await api.post("/$batch", json={"requests": numbered})
    codes = [(each["status"], each["body"].get("error", {}).get("code")) for each in answer.json["responses"]]
    too_large = (431, "requestHeaderFieldsTooLarge")
    assert codes == [(414, "uriTooLong"), too_large, too_large, (200, None)]
