"""`/$metadata`: the OData description of the types, open to everybody under every prefix."""

from typing import Final

from aiohttp import web

from tracker.api.answers import send_shared
from tracker.api.headers import accepts, joined
from tracker.api.odata.query_options import refuse_options
from tracker.api.openapi.csdl import metadata
from tracker.api.openapi.static_response import StaticResponse
from tracker.domain.type_registry import TypeRegistry

METADATA: Final = web.AppKey("metadata", StaticResponse)

_XML: Final = "application/xml"


async def serve(request: web.Request) -> web.StreamResponse:
    """Describe every registered operation type as an OData service does: CSDL in XML, version 4.0.

    Where there is a `$format`, `Accept` does not count (OData 4.01, part 2, 5.1.9).
    """
    options = refuse_options(request.query.items(), frozenset({"format"}))
    if not _accepts_xml(options.get("format"), joined(request.headers, "Accept")):
        raise web.HTTPNotAcceptable(text="The metadata is application/xml, which the request excludes.")
    return await send_shared(request, request.app[METADATA].response_to(request))


def metadata_response(registry: TypeRegistry) -> StaticResponse:
    """The response of `/$metadata`."""
    return StaticResponse(metadata(registry), f"{_XML}; charset=utf-8")


def _accepts_xml(format_option: str | None, accept: str) -> bool:
    """Whether the client accepts XML. `$format` may abbreviate the media type, in upper or lower case."""
    if format_option is None:
        return accepts(accept, _XML)
    return format_option.partition(";")[0].strip().lower() in {"xml", _XML}
