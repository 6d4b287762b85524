"""Every command in the README and the documentation is run as it is printed."""

import ast
import json
import shutil
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, Block, blocks
from tests.docs.terminal import Terminals, first_difference

NEEDED = ("bash", "curl", "openssl")
WITH_COMMANDS = [page for page in PAGES if any(block.language == "sh" for block in blocks(page))]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name_of)
@pytest.mark.skipif(not all(map(shutil.which, NEEDED)), reason=f"needs {', '.join(NEEDED)}")
@pytest.mark.timeout(300)
def test_the_commands_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    found = list(blocks(page))
    with Terminals(tmp_path) as terminals:
        for block, after in zip(found, [*found[1:], None], strict=True):
            expected = after.text if after is not None and after.language == "text" else None
            act(terminals, block, expected)


def act(terminals: Terminals, block: Block, expected: str | None) -> None:
    """Do what a reader does at this block."""
    if block.comment == "checkout":
        terminals.be_a_checkout()
    elif block.comment == "redis":
        terminals.start_redis()
    elif block.comment == "stop":
        terminals.stop(block.place)
    elif block.path:
        terminals.write(block)
    elif block.language == "sh" and block.comment == "keeps running":
        assert expected, f"{block.place}: a block that keeps running needs a text block with what it prints"
        terminals.keep_running(block, expected)
    elif block.language == "sh" and not block.why_not_run:
        printed = terminals.run(block, exit_code=exit_code(block))
        if expected is not None:
            expected = terminals.rewritten(expected)
            other = first_difference(expected, printed)
            assert not other, f"{block.place} prints something else at: {other}\n{block.text}\n--- printed\n{printed}"


def exit_code(block: Block) -> int:
    """The exit code that the page promises."""
    if not block.comment:
        return 0
    word, _, number = block.comment.partition(" ")
    assert word == "exits", f"{block.place}: an unknown comment: {block.comment}"
    return int(number)


def test_each_block_that_is_not_run_has_a_reason() -> None:
    skipped = [block for page in PAGES for block in blocks(page) if block.why_not_run]
    for block in skipped:
        print(f"{block.place}: not run, {block.why_not_run}")
        assert block.language == "sh", f"{block.place}: only sh blocks are run"
        assert len(block.why_not_run.split()) >= 2, f"{block.place}: say why"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_and_json_blocks_can_be_read(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            ast.parse(block.text, filename=block.place)
        elif block.language == "json":
            json.loads(block.text)
