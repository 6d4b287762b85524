"""A hook of MkDocs that makes a page of each file outside docs/ that a page links to.

GitHub shows README.md or examples/demo.py where a link points. The site has docs/ only, so this hook adds the linked
files below `files/`: Markdown and images as they are, any other text as a block of code. It follows the links of added
Markdown too. A link to a folder, or to a file that does not exist, is left alone, and the strict build fails on it.
"""

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files, InclusionLevel

ROOT = Path(__file__).parents[2]
DOCS, ADDED = "docs/", "files/"
LINK = re.compile(r"(?<=\]\()(?![a-z+]+:|[#/])([^)\s#]+)")
"""The path of a relative link. What follows it, an anchor or a title, stays."""
IMAGES = {".gif", ".jpg", ".png", ".svg", ".webp"}


def on_files(files: Files, *, config: Any) -> None:
    """Add the files that pages link to, and the files that the added pages link to."""
    pages = list(files.documentation_pages())
    while pages:
        page = pages.pop()
        for link in LINK.findall(page.content_string):
            target = site_path(page.src_uri, link)
            if target.startswith(ADDED) and files.get_file_from_path(target) is None:
                added = _file(target, config)
                files.append(added)
                if added.is_documentation_page():
                    pages.append(added)


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Let links to files outside docs/ point to the pages that were added."""
    here = page.file.src_uri

    def moved(match: re.Match[str]) -> str:
        target = site_path(here, match[0])
        return posixpath.relpath(target, posixpath.dirname(here)) if target else match[0]

    return LINK.sub(moved, markdown)


def site_path(page: str, link: str) -> str:
    """Say where the site has the target of a link; "" where the link needs no change.

    `page` is the path of the page in the site: `api.md` is docs/api.md, and `files/README.md` is README.md.
    """
    outside = page.startswith(ADDED)
    home = page.removeprefix(ADDED) if outside else f"{DOCS}{page}"
    target = posixpath.normpath(posixpath.join(posixpath.dirname(home), link))
    if target.startswith(DOCS):
        return target.removeprefix(DOCS) if outside else ""
    if not (ROOT / target).is_file():
        return ""
    suffix = posixpath.splitext(target)[1]
    return f"{ADDED}{target}" if suffix == ".md" or suffix in IMAGES else f"{ADDED}{target}.md"


def _file(path: str, config: Any) -> File:
    """Make the file that the site has at this path."""
    name = path.removeprefix(ADDED)
    source = ROOT / name
    if source.is_file():
        return File.generated(config, path, abs_src_path=str(source), inclusion=InclusionLevel.NOT_IN_NAV)
    name = name.removesuffix(".md")
    text = (ROOT / name).read_text()
    block = f"# {name}\n\n~~~~~~{Path(name).suffix[1:]}\n{text}~~~~~~\n"
    return File.generated(config, path, content=block, inclusion=InclusionLevel.NOT_IN_NAV)
