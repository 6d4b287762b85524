"""The short form of the chaos harness: load for half a minute, and every kind of fault once."""

import os
import random
import subprocess
import sys
from pathlib import Path

from tests.support.dev_stack import environment

ROOT = Path(__file__).parents[2]


def test_no_rule_is_broken_whatever_is_killed_stopped_and_cut(tmp_path: Path) -> None:
    seed = os.environ.get("CHAOS_SEED") or str(random.randrange(10**6))
    words = (sys.executable, "-m", "chaos", "--short", "--seed", seed, "--directory", str(tmp_path))
    done = subprocess.run(
        words, cwd=ROOT, env=environment({}), capture_output=True, text=True, timeout=240, check=False
    )
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}{done.stderr[-2000:]}\nCHAOS_SEED={seed} tries the same again"
