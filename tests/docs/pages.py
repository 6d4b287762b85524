"""The documentation's pages as lists of blocks: what a reader types, creates and sees.

A block is a fenced block of Markdown. What the tests do with it follows from the block and from an HTML comment before
it, which no rendered page shows:

* A `sh` block is run by bash in the page's directory. Each of its commands must succeed.
* A `text` block is what the `sh` block before it prints. In a line, `…` stands for any characters; a line that is
  nothing but `…` stands for any lines. Runs of spaces count as one space.
* A block whose first line is a comment with a path, such as `# contoso/operations.py`, is written to that file.
* `<!-- test: keeps running -->`: the `sh` block gets a terminal of its own. It is ready when it has printed the lines
  of its `text` block.
* `<!-- test: stop -->`: Ctrl-C in the terminal of the latest block that keeps running. Stands without a block.
* `<!-- test: exits 1 -->`: the `sh` block ends with this exit code.
* `<!-- test: not run, REASON -->`: the `sh` block is not run.
* `<!-- test: checkout -->`: the page's directory has `examples`, as a checkout has. Stands without a block.
* `<!-- test: redis -->`: a Redis server runs at port 6379 from here on. Stands without a block.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

NOT_RUN = "not run, "
_COMMENT = re.compile(r"<!-- test: (?P<word>.+?) -->")
_FENCE = re.compile(r"```(?P<language>\w*)")
_PATH = re.compile(r"# (?P<path>\w[\w./-]*\.\w+)$")
_ALONE = {"stop", "checkout", "redis"}
"""Comments that stand without a block."""


@dataclass(frozen=True)
class Block:
    """A fenced block, or a comment that stands without one. `line` is where its text begins, counted from 1."""

    page: Path
    line: int
    language: str
    text: str
    comment: str = ""

    @property
    def place(self) -> str:
        """Where a person finds it."""
        return f"{self.page.name}:{self.line}"

    @property
    def path(self) -> str:
        """The file that the block shows; "" when its first line names none."""
        first = _PATH.match(self.text.partition("\n")[0])
        return first["path"] if first and self.language != "sh" else ""  # a path that begins with / is none

    @property
    def why_not_run(self) -> str:
        """The reason for which a `sh` block is not run; "" when it is."""
        return self.comment.removeprefix(NOT_RUN) if self.comment.startswith(NOT_RUN) else ""


def blocks(page: Path) -> Iterator[Block]:
    """The page's blocks in their order. Raises AssertionError for a comment or a fence that cannot be understood."""
    comment, language, start, lines = "", None, 0, list[str]()
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        where = f"{page.name}:{number}"
        if language is not None:
            if line == "```":
                yield Block(page, start, language, "\n".join(lines), comment)
                language, comment = None, ""
            else:
                lines.append(line)
        elif fence := _FENCE.fullmatch(line):
            language, start, lines = fence["language"], number + 1, []
        elif said := _COMMENT.fullmatch(line):
            assert not comment, f"{where}: a second comment before a block"
            if said["word"] in _ALONE:
                yield Block(page, number, "", "", said["word"])
            else:
                comment = said["word"]
        else:
            assert "```" not in line, f"{where}: a fence must begin its line"
            assert "<!-- test" not in line, f"{where}: a comment for the tests must be a line of its own"
    assert language is None, f"{page.name}: a block has no end"
    assert not comment, f"{page.name}: a comment has no block"
