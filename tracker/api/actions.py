"""Graph's actions of a call, `POST /communications/calls/{callId}/{action}`: each creates an operation of its type.

Graph answers them with 200, `Location` and the operation, and knows them by their qualified names, too.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

from aiohttp import web

from tracker.api import operations, request_bodies
from tracker.api.guard import Resource
from tracker.errors import Invalid, NotSupported
from tracker.service import Caller

NAMESPACE: Final = "microsoft.graph."


@dataclass(frozen=True, slots=True)
class Action:
    """The type whose operation an action creates, and which member each of its parameters becomes."""

    type: str
    members: Mapping[str, str]


ACTIONS: Final[Mapping[str, Action]] = {
    "playPrompt": Action(
        "#microsoft.graph.playPromptOperation",
        {"prompts": "prompts", "loop": "loop", "clientContext": "clientContext"},
    ),
}
"""The actions that are served, by name; each has its row in docs/api.md."""

UNSERVED: Final = (
    *("addLargeGalleryView", "answer", "cancelMediaProcessing", "changeScreenSharingRole", "keepAlive", "mute"),
    *("record", "recordResponse", "redirect", "reject", "sendDtmfTones", "subscribeToTone", "transfer", "unmute"),
    "updateRecordingStatus",
)
"""Graph's other actions of a call: answered 501, as what is known and not served is everywhere here."""
UNSERVED_PATTERN: Final = rf"(?:{re.escape(NAMESPACE)})?(?:{'|'.join(UNSERVED)})"


def invoke(name: str) -> Resource:
    """The resource of one action."""
    action = ACTIONS[name]

    async def create(request: web.Request, caller: Caller) -> web.Response:
        """Create an operation of the action's type in the call."""
        given = await request_bodies.read_object(request)
        body = {"@odata.type": action.type}
        for parameter, value in given.items():
            if parameter in action.members:
                body[action.members[parameter]] = value
            elif "@" not in parameter:  # OData's control information
                raise Invalid(f"{parameter[:80]}: is not a parameter of {name}", target=parameter[:80])
        return await operations.accept(request, caller, body, created=HTTPStatus.OK)

    return create


async def refuse(request: web.Request, _: Caller) -> web.Response:
    """Refuse an action that Graph has and that is not served here."""
    raise NotSupported(f"The action {request.match_info['action']} is not supported here.")
