"""Where prompts come from: files below the media directory, and hosts that the configuration allows.

Everything the client chose is checked here. Nothing tells it whether something outside the media directory
exists.
"""

import asyncio
import io
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from tracker.config import Settings
from workers.handlers.media import MediaError, MediaSubcode

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession
    from yarl import URL

FETCH_SECONDS = 60.0
"""For one prompt from a server, redirects included."""
MOST_REDIRECTS = 3
CHUNK_BYTES = 64 * 1024
REDIRECTS = frozenset({301, 302, 303, 307, 308})
PASSING = frozenset({408, 425, 429})
"""4xx answers that say "later", as every 5xx does."""
SHOWN_CHARACTERS = 200


class SourceError(Exception):
    """The server does not answer, or says that it cannot now: another attempt may succeed."""


def shown(uri: str) -> str:
    """Return a uri as messages show it: printable, short, without credentials and query."""
    bare = re.sub(r"//[^/]*@", "//", re.split(r"[?#]", uri, maxsplit=1)[0])
    printable = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in bare)
    return printable if len(printable) <= SHOWN_CHARACTERS else printable[:SHOWN_CHARACTERS] + "…"


async def read(uri: str, settings: Settings) -> bytes:
    """Read the media that a prompt's uri names.

    Raises MediaError when it never can be, SourceError when it may be later.
    """
    parts = _split(uri)
    if parts.scheme in {"http", "https"}:
        return await _fetch(uri, settings)
    path = _path(parts)
    return await asyncio.to_thread(_read_file, path, settings)


def _split(uri: str) -> SplitResult:
    if not uri.isprintable():
        raise MediaError(MediaSubcode.BAD_URI, "the uri holds characters that cannot be printed")
    try:
        parts = urlsplit(uri)
    except ValueError:
        raise MediaError(MediaSubcode.BAD_URI, "the uri is malformed") from None
    if parts.scheme not in {"http", "https", "file", ""}:
        raise MediaError(MediaSubcode.BAD_URI, f"{parts.scheme}: is not supported; use http, https or a file")
    return parts


def _path(parts: SplitResult) -> str:
    """Return the path that a `file://` uri or a relative one means, decoded once."""
    if parts.netloc not in {"", "localhost"} or parts.query or parts.fragment:
        raise MediaError(MediaSubcode.BAD_URI, "a file's uri has a path only: no host, query or fragment")
    try:
        path = unquote(parts.path, errors="strict")
    except UnicodeDecodeError:
        raise MediaError(MediaSubcode.BAD_URI, "the uri's percent-encoding is not UTF-8") from None
    if not path or "\0" in path:
        raise MediaError(MediaSubcode.BAD_URI, "the uri names no file")
    return path


def _read_file(path: str, settings: Settings) -> bytes:
    if settings.media_dir is None:
        raise MediaError(MediaSubcode.NOT_ALLOWED, "no media directory is configured")
    resolved = _below(settings.media_dir, path)
    try:
        with open(resolved, "rb", opener=_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise MediaError(MediaSubcode.UNREADABLE, "this is not a regular file")
            media = file.read(settings.media_max_bytes + 1)
            _check_size(len(media), settings)
            return media
    except (FileNotFoundError, NotADirectoryError):
        raise MediaError(MediaSubcode.NOT_FOUND, "there is no such file") from None
    except OSError as error:
        raise MediaError(MediaSubcode.UNREADABLE, f"the file cannot be read: {error.strerror}") from None


def _without_waiting(path: str, flags: int) -> int:
    """Open a path whose links are resolved already; a fifo that nobody writes to opens at once."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def _below(directory: Path, path: str) -> Path:
    """Resolve a path with its symlinks. Raises MediaError when it leads out of the directory."""
    root = os.path.realpath(directory)
    # Unlike Path.resolve it raises for nothing, so that links outside cannot be told from each other.
    resolved = Path(os.path.realpath(directory / path))
    if ".." in Path(path).parts or not resolved.is_relative_to(root):
        raise MediaError(MediaSubcode.NOT_ALLOWED, "the path leads out of the media directory")
    return resolved


def _check_size(size: int, settings: Settings) -> None:
    cap = settings.media_max_bytes
    if size > cap:
        raise MediaError(MediaSubcode.TOO_LARGE, f"more than the {cap} bytes that are allowed")


async def _fetch(uri: str, settings: Settings) -> bytes:
    from aiohttp import ClientError, ClientSession  # noqa: PLC0415 - heavy, needed here only

    url = _allowed(uri, settings.media_hosts)
    # The body is capped as it is sent: unpacked, a small answer could become a large one.
    plain = ClientSession(auto_decompress=False, headers={"Accept-Encoding": "identity"})
    try:
        async with asyncio.timeout(FETCH_SECONDS), plain as session:
            return await _follow(session, url, settings)
    except TimeoutError:
        raise SourceError(f"the server did not send it within {FETCH_SECONDS:g} s") from None
    except ClientError as error:
        raise SourceError(f"the server cannot be reached or broke off ({type(error).__name__})") from error


def _allowed(uri: str, hosts: tuple[str, ...]) -> "URL":
    """Read an address. Raises MediaError unless the list names its host and port.

    A name without a port stands for the scheme's own port only.
    """
    from yarl import URL  # noqa: PLC0415 - heavy, needed here only

    try:
        url = URL(uri)
        host, port = url.host_subcomponent, url.port
    except ValueError:
        raise MediaError(MediaSubcode.BAD_URI, "the uri is malformed") from None
    if not host or url.user is not None or url.password is not None:
        raise MediaError(MediaSubcode.BAD_URI, "the uri needs a host, and may not hold credentials")
    names = {f"{host}:{port}", host} if url.is_default_port() else {f"{host}:{port}"}
    if not names & {name.lower() for name in hosts}:
        raise MediaError(MediaSubcode.NOT_ALLOWED, "prompts may not be fetched from this host")
    return url


async def _follow(session: "ClientSession", url: "URL", settings: Settings) -> bytes:
    """Read one answer, after at most three redirects that stay on its scheme, host and port."""
    for _ in range(MOST_REDIRECTS + 1):
        async with session.get(url, allow_redirects=False) as answer:
            if answer.status not in REDIRECTS:
                return await _body(answer, settings)
            url = _redirected(url, answer.headers.get("Location", ""))
    raise MediaError(MediaSubcode.UNREADABLE, f"more than {MOST_REDIRECTS} redirects")


def _redirected(url: "URL", location: str) -> "URL":
    from yarl import URL  # noqa: PLC0415 - heavy, needed here only

    with suppress(ValueError):  # malformed, or without an origin: mailto:, data:, file:
        target = url.join(URL(location))
        if location and target.origin() == url.origin() and target.user is None and target.password is None:
            return target
    raise MediaError(MediaSubcode.UNREADABLE, "the server redirects away from itself")


async def _body(answer: "ClientResponse", settings: Settings) -> bytes:
    if answer.status in {404, 410}:
        raise MediaError(MediaSubcode.NOT_FOUND, f"the server answered {answer.status}")
    if answer.status >= 500 or answer.status in PASSING:  # noqa: PLR2004 - RFC 9110, 15.6
        raise SourceError(f"the server answered {answer.status}")
    if answer.status != 200:  # noqa: PLR2004 - RFC 9110, 15.3.1: the only answer that is the whole file
        raise MediaError(MediaSubcode.UNREADABLE, f"the server answered {answer.status}")
    media = io.BytesIO()
    async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
        media.write(chunk)
        _check_size(media.tell(), settings)
    return media.getvalue()
