"""Generator of the README's picture: `python examples/picture.py`.

The generator runs `tracker dev` with the type that the README shows, creates an operation on a pseudo-terminal, and
draws the output of both commands. The picture has a line for each state of the progress bar, because a picture cannot
change a line in place as a terminal does.
"""

import io
import os
import pty
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

ROOT = Path(__file__).resolve().parent.parent
PICTURE = ROOT / "docs" / "images" / "first-operation.svg"
COLUMNS = 104
TYPES = "contoso/operations.py"
DEV = "TRACKER_TYPES=contoso.operations TRACKER_DEV_TOKEN=secret tracker dev"
CREATE = """tracker create call-1 --type '#contoso.reverseOperation' --body '{"text": "abc"}' --wait"""
SHOWN = ("member", "status", "createdDateTime", "completedDateTime", "percentComplete", "attempt")
RESULT = ("text", "reversed")
"""Members of the operation that the picture shows: members of every operation, and members of the type."""
FONT = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)
"""The rule by which Rich's SVG loads a font from another host. Pages that show the picture do not allow that."""


def main() -> None:
    """Run the commands and write the picture."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        write_types(directory)
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("TRACKER_", "REDIS_URL"))},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "TRACKER_TOKEN": "secret",
            "TERM": "xterm-256color",
            "COLUMNS": str(COLUMNS),
        }
        with subprocess.Popen(
            ["bash", "-c", f"exec env {DEV}"],
            cwd=directory, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ) as dev:  # fmt: skip
            try:
                started = list(until_ready(dev))
                printed = under_a_terminal(CREATE, directory, environment)
            finally:
                dev.send_signal(signal.SIGINT)
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(drawn(started, printed, directory), encoding="utf-8")
    print(PICTURE.relative_to(ROOT))


def write_types(directory: Path) -> None:
    """Write the module that the README shows into the directory."""
    found = re.search(rf"```python\n(# {TYPES}\n.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None, f"the README shows no {TYPES}"
    (directory / TYPES).parent.mkdir()
    (directory / TYPES).write_text(found[1], encoding="utf-8")


def until_ready(dev: subprocess.Popen[str]) -> Iterator[str]:
    """Yield the lines of output up to the line that begins with `ready`."""
    assert dev.stdout is not None
    for line in dev.stdout:
        yield line.rstrip("\n")
        if line.startswith("ready "):
            return
    raise SystemExit("tracker dev did not become ready. Another process may listen on port 8080.")


def under_a_terminal(command: str, directory: Path, environment: dict[str, str]) -> str:
    """Run a command on a pseudo-terminal, and return its output with all control codes."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(["bash", "-c", command], cwd=directory, env=environment, stdout=theirs, stderr=theirs):
        os.close(theirs)
        output = io.BytesIO()
        while chunk := _read(ours):
            output.write(chunk)
    os.close(ours)
    return output.getvalue().decode()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux reports EIO when the last process on the other side has ended
        return b""


def steps(printed: str) -> Iterator[Text]:
    """Yield the lines to draw: each state of the progress bar once, and the table rows in `SHOWN` and `RESULT`."""
    seen = set()
    for part in re.split(r"[\r\n]+", re.sub(r"\x1b\[(?:\?25[lh]|2K|\d*A)", "", printed)):
        line = Text.from_ansi(part)
        line.rstrip()
        percent = re.search(r"(\d+) %", line.plain)
        if percent is None:
            first = line.plain.partition(" ")[0]
            if first in {"Created", *SHOWN, *RESULT}:
                yield line
        elif percent[1] not in seen and "reversing" in line.plain:
            seen.add(percent[1])
            yield line


def drawn(started: list[str], printed: str, directory: Path) -> str:
    """Return the picture as SVG. `started` has the output of `tracker dev`, `printed` the output of the create."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(_prompt(DEV))
    for line in started:
        if line.startswith(("token", "redis", "ready")):
            console.print(Text(line.replace(str(directory.resolve()), "/home/me/demo")))
    console.print()
    console.print(Text("# a second terminal", style="bright_black"))
    console.print(_prompt("export TRACKER_TOKEN=secret"))
    console.print(_prompt(CREATE))
    for step in steps(printed):
        console.print(step, overflow="crop", no_wrap=True)
    return FONT.sub("", console.export_svg(title="Operation tracker", theme=MONOKAI, unique_id="first-operation"))


def _prompt(command: str) -> Text:
    return Text.assemble(("$ ", "bold green"), (command, "bold"))


if __name__ == "__main__":
    main()
