"""The sources of prompts: files below the media directory, and hosts that the configuration allows.

Clients choose the URI of a prompt, so it is checked here. No message tells a client whether a file outside the media
directory exists.
"""

import asyncio
import os
import re
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, unquote, urlsplit

from tracker.config import Settings
from workers.handlers.media import MediaError, MediaSubcode

if TYPE_CHECKING:
    from aiohttp import ClientResponse, ClientSession
    from yarl import URL

FETCH_TIMEOUT = 60.0
"""The longest time that one prompt may take to come from its server, redirects included, in seconds."""
MAX_REDIRECTS = 3
"""How many redirects of one prompt are followed at most."""
CHUNK_BYTES = 64 * 1024
REDIRECTS = frozenset({301, 302, 303, 307, 308})
TEMPORARY = frozenset({408, 425, 429})
"""4xx statuses after which another attempt may succeed, as after every 5xx."""
SHOWN_CHARACTERS = 200
"""How many characters of a URI a message shows at most."""


class SourceError(Exception):
    """The server does not answer, or cannot answer now. Another attempt may succeed."""


def shown(uri: str) -> str:
    """Return a URI as messages show it: printable, short, and without credentials and query."""
    bare = re.sub(r"//[^/]*@", "//", re.split(r"[?#]", uri, maxsplit=1)[0])
    printable = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in bare)
    return printable if len(printable) <= SHOWN_CHARACTERS else printable[:SHOWN_CHARACTERS] + "…"


Feed = Callable[[bytes], None]
"""Takes the next piece of the media, of CHUNK_BYTES at most. It may raise MediaError, which ends the reading."""


async def read(uri: str, settings: Settings, feed: Feed) -> None:
    """Read the media that a prompt's URI names, in pieces. Nobody keeps the whole media: a worker reads many at once.

    Raises MediaError when no attempt can read it, and SourceError when another attempt may.
    """
    parts, feed = _split(uri), _limited(feed, settings.media_max_bytes)
    if parts.scheme in {"http", "https"}:
        await _fetch(uri, settings.media_hosts, feed)
    else:
        await asyncio.to_thread(_read_file, _path(parts), settings, feed)


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
    """Return the path of a `file://` URI or of a relative one, with its percent-encoding decoded once."""
    if parts.netloc not in {"", "localhost"} or parts.query or parts.fragment:
        raise MediaError(MediaSubcode.BAD_URI, "a file's uri has a path only: no host, query or fragment")
    try:
        path = unquote(parts.path, errors="strict")
    except UnicodeDecodeError:
        raise MediaError(MediaSubcode.BAD_URI, "the uri's percent-encoding is not UTF-8") from None
    if not path or "\0" in path:
        raise MediaError(MediaSubcode.BAD_URI, "the uri names no file")
    return path


def _read_file(path: str, settings: Settings, feed: Feed) -> None:
    if settings.media_dir is None:
        raise MediaError(MediaSubcode.NOT_ALLOWED, "no media directory is configured")
    resolved = _below(settings.media_dir, path)
    try:
        with open(resolved, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise MediaError(MediaSubcode.UNREADABLE, "this is not a regular file")
            while piece := file.read(CHUNK_BYTES):
                feed(piece)
    except (FileNotFoundError, NotADirectoryError):
        raise MediaError(MediaSubcode.NOT_FOUND, "there is no such file") from None
    except OSError as error:
        raise MediaError(MediaSubcode.UNREADABLE, f"the file cannot be read: {error.strerror}") from None


def _open_at_once(path: str, flags: int) -> int:
    """Open a path whose links are resolved already. Does not wait for a writer if it is a fifo."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOFOLLOW)


def _below(directory: Path, path: str) -> Path:
    """Resolve a path and its symlinks. Raises MediaError when it leads out of the directory."""
    root = os.path.realpath(directory)
    # Path.resolve raises for a loop of links, which would tell a client about links outside of the directory.
    resolved = Path(os.path.realpath(directory / path))
    if ".." in Path(path).parts or not resolved.is_relative_to(root):
        raise MediaError(MediaSubcode.NOT_ALLOWED, "the path leads out of the media directory")
    return resolved


def _limited(feed: Feed, most: int) -> Feed:
    """A function that passes pieces on to `feed`. It raises MediaError when they have more than `most` bytes in all."""
    size = 0

    def feed_limited(piece: bytes) -> None:
        nonlocal size
        size += len(piece)
        if size > most:
            raise MediaError(MediaSubcode.TOO_LARGE, f"more than the {most} bytes that are allowed")
        feed(piece)

    return feed_limited


async def _fetch(uri: str, hosts: tuple[str, ...], feed: Feed) -> None:
    # Prompts from servers need aiohttp, and nothing else in a worker does. It takes 8 MiB beside the worker's 53 MiB.
    from aiohttp import ClientError, ClientSession  # noqa: PLC0415 - see above

    url = _allowed(uri, hosts)
    # A small compressed response could unpack to a large one, and the limit counts the bytes that are sent.
    plain = ClientSession(auto_decompress=False, headers={"Accept-Encoding": "identity"})
    try:
        async with asyncio.timeout(FETCH_TIMEOUT), plain as session:
            await _follow(session, url, feed)
    except TimeoutError:
        raise SourceError(f"the server did not send the prompt within {FETCH_TIMEOUT:g} s") from None
    except ClientError as error:
        raise SourceError(f"the server cannot be reached, or the connection broke ({type(error).__name__})") from error


def _allowed(uri: str, hosts: tuple[str, ...]) -> "URL":
    """Read a URL. Raises MediaError unless its host and port are on the list.

    A host on the list without a port allows the default port of the scheme only.
    """
    from yarl import URL  # noqa: PLC0415 - as aiohttp in `_fetch`

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


async def _follow(session: "ClientSession", url: "URL", feed: Feed) -> None:
    """Read the media. Redirects are followed if they stay on the same scheme, host and port."""
    for _ in range(MAX_REDIRECTS + 1):
        async with session.get(url, allow_redirects=False) as response:
            if response.status not in REDIRECTS:
                await _read_body(response, feed)
                return
            url = _redirected(url, response.headers.get("Location", ""))
    raise MediaError(MediaSubcode.UNREADABLE, f"more than {MAX_REDIRECTS} redirects")


def _redirected(url: "URL", location: str) -> "URL":
    from yarl import URL  # noqa: PLC0415 - as aiohttp in `_fetch`

    with suppress(ValueError):  # malformed, or without an origin: mailto:, data:, file:
        target = url.join(URL(location))
        if location and target.origin() == url.origin() and target.user is None and target.password is None:
            return target
    raise MediaError(MediaSubcode.UNREADABLE, "the server redirects to an address that is not its own")


async def _read_body(response: "ClientResponse", feed: Feed) -> None:
    if response.status in {404, 410}:
        raise MediaError(MediaSubcode.NOT_FOUND, f"the server answered {response.status}")
    if response.status >= 500 or response.status in TEMPORARY:  # noqa: PLR2004 - RFC 9110, 15.6
        raise SourceError(f"the server answered {response.status}")
    if response.status != 200:  # noqa: PLR2004 - RFC 9110, 15.3.1: the only status with the whole file
        raise MediaError(MediaSubcode.UNREADABLE, f"the server answered {response.status}")
    async for piece in response.content.iter_chunked(CHUNK_BYTES):
        feed(piece)
