"""Graph's actions of a call: each creates an operation of its type."""

from typing import Any

import pytest

from tests.support.api_client import Api
from tracker.api.actions import ACTIONS, UNSERVED
from tracker.api.links import PREFIXES
from tracker.config import BUILT_IN_TYPES
from tracker.domain.type_modules import load_types

CALL = "/communications/calls/call-1"
PROMPTS = [
    {
        "@odata.type": "#microsoft.graph.mediaPrompt",
        "mediaInfo": {"@odata.type": "#microsoft.graph.mediaInfo", "uri": "welcome.wav", "resourceId": "1"},
    }
]


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("name", ["playPrompt", "microsoft.graph.playPrompt"])
async def test_an_action_answers_200_and_its_operation(api: Api, prefix: str, name: str) -> None:
    answer = await api.post(f"{prefix}{CALL}/{name}", json={"clientContext": "mine", "prompts": PROMPTS, "loop": True})
    body = answer.json
    assert (answer.status, body["@odata.type"]) == (200, "#microsoft.graph.playPromptOperation")
    assert (body["clientContext"], body["prompts"], body["loop"]) == ("mine", PROMPTS, True)
    assert answer.headers["Location"] == f"{api.url}{prefix}{CALL}/operations/{body['id']}"
    assert all(name in answer.headers for name in ("Operation-Location", "ETag", "Retry-After"))
    assert (await api.get(answer.headers["Location"])).json == body


async def test_an_action_again_is_another_operation(api: Api) -> None:
    body = {"clientContext": "mine", "prompts": PROMPTS}
    ids = {(await api.post(f"{CALL}/playPrompt", json=body)).json["id"] for _ in range(2)}
    assert len(ids) == 2


@pytest.mark.parametrize(
    ("body", "target"),
    [
        ({}, "prompts"),
        ({"prompts": []}, "prompts"),
        ({"prompts": PROMPTS, "loop": "yes"}, "loop"),
        ({"prompts": PROMPTS, "clientContext": "x" * 257}, "clientContext"),
        ({"prompts": PROMPTS, "id": "mine"}, "id"),
        ({"prompts": PROMPTS, "completionReason": "unknown"}, "completionReason"),
    ],
)
async def test_parameters_are_judged_as_the_members_are(api: Api, body: dict[str, Any], target: str) -> None:
    answer = await api.post(f"{CALL}/playPrompt", json=body)
    assert (answer.status, answer.error["target"]) == (400, target)


async def test_control_information_is_no_parameter(api: Api) -> None:
    told = {"@odata.type": "#microsoft.graph.commsOperation", "prompts@odata.type": "#Collection(x)"}
    answer = await api.post(f"{CALL}/playPrompt", json={**told, "prompts": PROMPTS})
    assert (answer.status, answer.json["@odata.type"]) == (200, "#microsoft.graph.playPromptOperation")


@pytest.mark.parametrize("name", [*UNSERVED, "microsoft.graph.mute"])
async def test_an_action_that_only_graph_has_is_501(api: Api, name: str) -> None:
    answer = await api.post(f"{CALL}/{name}", json={})
    assert (answer.status, answer.error["code"]) == (501, "notImplemented")


@pytest.mark.parametrize("name", ["microsoft.graph.", "mute2", "MUTE", "contoso.mute", "microsoft.graph.operations"])
async def test_an_action_that_nobody_has_is_404(api: Api, name: str) -> None:
    answer = await api.post(f"{CALL}/{name}", json={})
    assert (answer.status, answer.error["code"]) == (404, "notFound")


@pytest.mark.parametrize("name", ["playPrompt", "mute"])
async def test_an_action_is_posted(api: Api, name: str) -> None:
    answer = await api.get(f"{CALL}/{name}")
    assert (answer.status, answer.error["code"]) == (405, "methodNotAllowed")
    assert "GET" not in answer.headers["Allow"]


@pytest.mark.parametrize("name", ACTIONS)
def test_the_table_names_members_that_a_client_may_set(name: str) -> None:
    model = load_types(BUILT_IN_TYPES)[ACTIONS[name].type].model
    declared = {info.alias for info in model.model_fields.values()} - model.result_members()
    assert set(ACTIONS[name].members.values()) <= declared
