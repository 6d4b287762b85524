"""Checkouts of the project that benchmarks measure: this checkout, and another commit beside it.

Each measured process (server, worker) runs in its own checkout, with the Python of its own environment. The load and
the measurement always come from this checkout, so that both trees are measured by the same code. The benchmarks use
interfaces of the other tree that stay: its command line, HTTP, its keys in Redis, `python -m benchmarks.peers tracker`
and `make install`. `benchmarks/in_tree/store_driver.py` calls functions that have no such interface.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.processes import ROOT

CHECKOUTS = ROOT / ".against"
"""Holds the checkouts of other commits. git ignores the folder, and `make clean` removes it."""
MINUTES = 15.0
"""The default of `--minutes`. Start-up and the last round's end come on top, and stay within five minutes."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A checkout, and the interpreter of its environment."""

    name: str
    root: Path
    python: Path

    def tracker(self, *words: str) -> tuple[str, ...]:
        """A `tracker` command line. It has to run in `root`."""
        return (str(self.python), "-m", "tracker.cli.main", *words)


THIS = Tree("this tree", ROOT, Path(sys.executable))


def checked_out(commit: str, *, root: Path = ROOT, checkouts: Path = CHECKOUTS) -> Tree:
    """Check a commit out and install it, unless an earlier run did. Exits with git's or make's message on failure.

    The commit's own `make install` makes the environment: it knows where the commit has its constraints.
    """
    sha = _git(root, "rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}") or sys.exit(
        f"{commit!r} is no commit of this repository"
    )
    path = checkouts / sha[:12]
    if not (path / ".git").exists():
        _git(root, "worktree", "prune")  # forgets a checkout whose folder was removed
        _git(root, "worktree", "add", "--detach", str(path), sha)
    _install(path)
    return Tree(sha[:7], path, path / ".venv" / "bin" / "python")


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(("git", *words), cwd=root, capture_output=True, text=True, check=False)
    if done.returncode and done.stderr:
        sys.exit(done.stderr.strip())
    return done.stdout.strip()


def _install(path: Path) -> None:
    """Run `make install` there, with the Python that this process's environment was made with."""
    base = Path(getattr(sys, "_base_executable", sys.executable))
    command = ["make", "--silent", "--directory", str(path), "install", f"PYTHON={base}"]
    outer = {"MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL", "VIRTUAL_ENV"}  # of the `make` that runs this
    env = {name: value for name, value in os.environ.items() if name not in outer}
    if subprocess.run(command, env=env, stdout=sys.stderr, check=False).returncode:
        sys.exit(f"`make install` failed in {path}")


def described() -> str:
    """This tree's commit, and whether files differ from it."""
    changes = " with changes" if _git(ROOT, "status", "--porcelain") else ""
    return f"{THIS.name} is {_git(ROOT, 'rev-parse', '--short=7', 'HEAD')}{changes}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a comparison to a benchmark's command line."""
    group = parser.add_argument_group("comparison of two trees")
    group.add_argument("--against", metavar="COMMIT", help="measure this tree and COMMIT in turns; print ratios")
    group.add_argument(
        "--minutes", type=float, default=MINUTES, help=f"longest time of all rounds in minutes ({MINUTES:g})"
    )


def fill_in(options: argparse.Namespace, defaults: Mapping[str, Any]) -> None:
    """Set the options that were not given. Their defaults depend on `--quick` and `--against`."""
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
