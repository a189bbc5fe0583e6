"""A search that is harmed all the time loses nothing; `make chaos` does it for long."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# Faults of many kinds in less than a minute.
SEED = 26
N_FAULTS = 8


@pytest.mark.timeout(600)
def test_nothing_is_lost_whatever_happens():
    program = Path(__file__).with_name("chaos.py")
    ended = subprocess.run(
        [
            *(sys.executable, str(program), "--seed", str(SEED), "--faults", str(N_FAULTS)),
            *("--gap", "0.8", "--evaluations", "800"),
        ],
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert f"{N_FAULTS} faults survived, 0 evaluations lost, 0 doubled" in ended.stdout
