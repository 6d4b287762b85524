"""The short form of the fuzz run: mutated bytes to the parsers and to a running API."""

import os
import random
import subprocess
import sys
from pathlib import Path

from chaos.fuzz_inputs import TARGETS, mutated
from tests.support.dev_stack import environment

ROOT = Path(__file__).parents[2]


def test_no_input_harms_a_parser_or_the_api() -> None:
    seed = os.environ.get("FUZZ_SEED") or str(random.randrange(10**6))
    words = (sys.executable, "-m", "chaos.fuzz", "--inputs", "15000", "--minutes", "0.05", "--seed", seed)
    done = subprocess.run(
        words, cwd=ROOT, env=environment({}), capture_output=True, text=True, timeout=240, check=False
    )
    print(done.stdout)
    assert done.returncode == 0, f"{done.stdout}{done.stderr[-2000:]}\nFUZZ_SEED={seed} tries the same again"
    assert "15,000 inputs" in done.stdout
    assert " × 400" in done.stdout


def test_a_seed_gives_the_same_mutations_again() -> None:
    one, other = random.Random(7), random.Random(7)
    examples = TARGETS["JSON"].examples
    assert [mutated(examples, one) for _ in range(100)] == [mutated(examples, other) for _ in range(100)]
