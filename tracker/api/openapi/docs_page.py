"""`/docs`: the OpenAPI description as a page to read and to try requests on, open to everybody.

The page is Swagger UI. Its files are in the package `flask-swagger-ui` (the extra `docs`); the code of that package is
not run. A Content-Security-Policy lets the browser load files from this server only, and run no inline script.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from aiohttp import web

from tracker.api.answers import send_shared
from tracker.api.openapi.static_response import StaticResponse
from tracker.errors import NotFound

FILES_PACKAGE: Final = "flask_swagger_ui"
NOT_INSTALLED: Final = (
    "The files of this page are not installed: pip install flask-swagger-ui. /openapi.json has the same description."
)

_ASSETS: Final = Path(__file__).parent / "assets"
_CONTENT_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".png": "image/png",
}
_NAMES: Final = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_NO_SNIFFING: Final = {"X-Content-Type-Options": "nosniff"}


class DocsPage:
    """The page and its files. They are read when the API starts, so a request cannot reach any other file."""

    def __init__(self, files: Mapping[str, StaticResponse]) -> None:
        headers = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer", **_NO_SNIFFING}
        self._page = StaticResponse((_ASSETS / "page.html").read_bytes(), "text/html; charset=utf-8", **headers)
        self._files = files

    def response_to(self, request: web.Request, name: str | None = None) -> web.Response:
        """The page, or the file of that name. Raises NotFound for another name, or when the files are not installed."""
        if not self._files:
            raise NotFound(NOT_INSTALLED)
        if name is None:
            return self._page.response_to(request)
        if name not in self._files:
            raise NotFound("The page has no such file.")
        return self._files[name].response_to(request)


PAGE: Final = web.AppKey("page", DocsPage)


def open_page() -> DocsPage:
    """Read the page's files, if the package that has them is installed."""
    spec = find_spec(FILES_PACKAGE)
    folders = () if spec is None else tuple(spec.submodule_search_locations or ())
    paths = [Path(folders[0], "dist", name) for name in _NAMES] if folders else []
    if not paths or not all(path.is_file() for path in paths):
        return DocsPage({})
    paths.append(_ASSETS / "page.js")
    return DocsPage({path.name: _file(path) for path in paths})


async def serve(request: web.Request) -> web.StreamResponse:
    """Show this description as a page. Requests can be tried there with your token."""
    return await send_shared(request, request.app[PAGE].response_to(request))


async def serve_file(request: web.Request) -> web.StreamResponse:
    """Answer with a file that the page needs."""
    return await send_shared(request, request.app[PAGE].response_to(request, request.match_info["file"]))


def _file(path: Path) -> StaticResponse:
    return StaticResponse(path.read_bytes(), _CONTENT_TYPES[path.suffix], **_NO_SNIFFING)
