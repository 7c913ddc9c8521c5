"""200 commands killed at random moments: the same command ends as if there had been no kill, and nothing is lost."""

import json
import os
import subprocess
import sys

import pytest

ALONE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}  # only a process without threads may fork


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first_seed", [0, 35])
@pytest.mark.parametrize(("command", "kills"), [("train", 35), ("validate", 30), ("analyze", 35)])
def test_a_command_killed_at_a_random_moment_ends_alike_when_it_is_given_again(tmp_path, command, kills, first_seed):
    done = subprocess.run(
        [sys.executable, "-m", "tests.core.killed_commands", tmp_path, command, str(first_seed), str(kills)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | ALONE,
        check=True,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == kills
    assert [line for line in lines if not line["right"]] == []
    assert sum(line["hit"] for line in lines) > kills / 2
