"""The body of a `$batch`: what is refused, and with how many words."""

from typing import Any

import pytest

from tracker.api.batch.batch_body import MOST_DEPENDENCIES, read_batch
from tracker.errors import Invalid

READ: dict[str, Any] = {"id": "1", "method": "get", "url": "/x"}


def faults(*requests: Any) -> list[tuple[str | None, str]]:
    with pytest.raises(Invalid) as refused:
        read_batch({"requests": list(requests)})
    assert refused.value.message == f"{refused.value.details[0].target}: {refused.value.details[0].message}"
    assert refused.value.target == refused.value.details[0].target
    return [(detail.target, detail.message) for detail in refused.value.details]


def test_a_method_is_read_in_any_case_and_null_is_absent() -> None:
    [request] = read_batch({"requests": [{**READ, "headers": None, "dependsOn": None, "if": None, "body": None}]})
    assert (request.method, request.headers, request.depends_on, request.unsupported) == ("GET", None, [], None)


def test_each_member_that_is_wrong_is_named_once() -> None:
    wrong = {"id": "", "url": "", "headers": {"a": 1, "b": 2}, "dependsOn": [1, 2]}
    assert [target for target, _ in faults(READ, wrong)] == [
        "requests/1/id",
        "requests/1/method",
        "requests/1/url",
        "requests/1/headers",
        "requests/1/dependsOn",
    ]
    assert faults(READ, 7) == [("requests/1", "must be an object")]


@pytest.mark.parametrize(
    "member", [{"headers": dict.fromkeys(map(str, range(80_000)), 1)}, {"dependsOn": [1] * 400_000}]
)
def test_a_body_full_of_faults_gets_a_short_answer(member: dict[str, Any]) -> None:
    assert len(faults({**READ, **member})) == 1


def test_a_request_depends_on_earlier_ones_by_either_name_of_the_member() -> None:
    first, second = READ, {**READ, "id": "B", "dependsOn": ["1"], "depends_on": ["1"]}
    assert read_batch({"requests": [first, second]})[1].depends_on == ["1", "1"]
    assert faults({**READ, "dependsOn": ["1"]})[0][0] == "requests/0/dependsOn"
    assert faults({**READ, "depends_on": ["2"]})[0][0] == "requests/0/depends_on"
    assert faults(READ, {**READ, "id": "a"}, {**READ, "id": "A"})[0][0] == "requests/2/id"


def test_the_number_of_dependencies_is_limited() -> None:
    earlier = {**READ, "id": "0"}
    assert read_batch({"requests": [earlier, {**READ, "dependsOn": ["0"] * MOST_DEPENDENCIES}]})
    [(target, _)] = faults(earlier, {**READ, "dependsOn": ["0"] * (MOST_DEPENDENCIES + 1)})
    assert target == "requests/1/dependsOn"
