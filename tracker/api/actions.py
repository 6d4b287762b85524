"""Graph's actions of a call, `POST /communications/calls/{callId}/{action}`. Each creates an operation of its type.

The response is 200 with `Location` and the operation, as Graph sends it. An action also has a qualified name, such as
`microsoft.graph.playPrompt`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from aiohttp import web

from tracker.api import operations, request_bodies
from tracker.api.guard import CallerHandler
from tracker.errors import Invalid, NotSupported
from tracker.service import Caller

NAMESPACE: Final = "microsoft.graph."


@dataclass(frozen=True, slots=True)
class Action:
    """The type of the operations that an action creates, and the member that each of its parameters becomes."""

    type: str
    members: Mapping[str, str]


ACTIONS: Final[Mapping[str, Action]] = {
    "playPrompt": Action(
        "#microsoft.graph.playPromptOperation",
        {"prompts": "prompts", "loop": "loop", "clientContext": "clientContext"},
    ),
}
"""The actions that are served, by name. A test checks that docs/api.md names each."""

UNSERVED: Final = (
    *("addLargeGalleryView", "answer", "cancelMediaProcessing", "changeScreenSharingRole", "keepAlive", "mute"),
    *("record", "recordResponse", "redirect", "reject", "sendDtmfTones", "subscribeToTone", "transfer", "unmute"),
    "updateRecordingStatus",
)
"""Graph's other actions of a call. The response to them is 501: they are documented, but not served here."""
UNSERVED_PATTERN: Final = rf"(?:{re.escape(NAMESPACE)})?(?:{'|'.join(UNSERVED)})"


def action_handler(name: str) -> CallerHandler:
    """The handler of one action."""
    action = ACTIONS[name]

    async def create(request: web.Request, caller: Caller) -> web.Response:
        """Create an operation of the action's type in the call."""
        parameters = await request_bodies.read_object(request, caller)
        body = {"@odata.type": action.type}
        for parameter, value in parameters.items():
            if parameter in action.members:
                body[action.members[parameter]] = value
            elif "@" not in parameter:  # names with "@" are OData's control information, which is ignored
                raise Invalid(f"{parameter[:80]}: {name} has no parameter of this name", target=parameter[:80])
        return await operations.create_from(request, caller, body, status=HTTPStatus.OK)

    return create


async def refuse(request: web.Request, _: Caller) -> web.Response:
    """Refuse an action of UNSERVED."""
    raise NotSupported(f"The action {request.match_info['action']} is not supported here.")
