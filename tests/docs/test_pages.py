"""What the documentation names exists: links, anchors, modules, and the commands of the README's picture."""

import re
import subprocess
import sys
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from examples import picture
from tests.docs.pages import PAGES, ROOT, blocks

LINK = re.compile(r"\]\((?!https?:|mailto:)(?P<target>[^)#]*)(?:#(?P<anchor>[^)]+))?\)")
MODULE = re.compile(r"`((?:tracker|workers)(?:\.[A-Za-z_]\w*)+)`")
FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@cache
def prose(page: Path) -> str:
    """The page without its blocks."""
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def anchor(heading: str) -> str:
    """The anchor of a heading, where GitHub and the site agree on it."""
    return re.sub(r" +", "-", re.sub(r"[^\w\- ]", "", heading.lower()).strip())


@cache
def anchors(page: Path) -> frozenset[str]:
    return frozenset(anchor(heading) for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.finditer(prose(page)):
        target = (page.parent / link["target"]).resolve() if link["target"] else page
        assert target.is_file(), link[0]
        if link["anchor"]:
            assert link["anchor"] in anchors(target), link[0]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_module_that_is_named_can_be_imported(page: Path) -> None:
    for name in MODULE.findall(page.read_text(encoding="utf-8")):
        head, _, tail = name.rpartition(".")
        try:
            import_module(name)
        except ImportError:
            assert hasattr(import_module(head), tail), name


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_type_that_is_shown_can_be_loaded(page: Path, tmp_path: Path) -> None:
    shown = [block for block in blocks(page) if block.language == "python" and "(Operation, type=" in block.text]
    for block in shown:
        file = tmp_path / "shown.py"
        file.write_text(block.text, encoding="utf-8")
        done = subprocess.run([sys.executable, str(file)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{block.place}\n{done.stderr}"


def test_the_picture_shows_commands_of_the_readme() -> None:
    commands = "\n".join(block.text for block in blocks(ROOT / "README.md") if block.language == "sh")
    assert picture.DEV in commands
    assert picture.CREATE in commands
    assert picture.PICTURE.read_text(encoding="utf-8").startswith("<svg")
