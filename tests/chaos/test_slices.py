"""A short slice of every experiment; ``make chaos`` runs them whole."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos.network import can_make
from tests.chaos.runner import EXPERIMENTS, run, table

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_a_slice_of_it_breaks_no_promise(name: str, tmp_path: Path) -> None:
    if name == "R7-net" and not can_make():
        pytest.skip("no right to make network namespaces here")
    report = run(name, seed=1, scale=0.02, seconds=20.0, directory=tmp_path)
    assert report.is_good, "\n".join([table([report]), *report.verdict.problems])
    assert report.faults.total() > 0
    assert report.verdict.acknowledged > 0


def test_a_run_with_a_planted_bug_exits_with_1_and_says_how_to_repeat_it() -> None:
    """Its session manager forgets to store every fifth group of outcomes."""
    command = [sys.executable, "-m", "tests.chaos", "--only", "R14", "--scale", "0.02"]
    ran = subprocess.run(
        [*command, "--seed", "5", "--bug", "DropsARecord"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60.0,
        check=False,
    )
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "BROKEN P2" in ran.stdout
    assert (
        "replay: python -m tests.chaos --only R14 --seed 5 --scale 0.02 --bug DropsARecord"
        in ran.stdout
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "R99"], "R99 is not known; there are R1, "),
        (["--bug", "Nonsense"], "choose from .*DropsARecord"),
        (["--bug", "DropsARecord", "--only", "R5"], "R5 has no session manager"),
    ],
)
def test_what_it_cannot_do_is_refused(options: list[str], said: str) -> None:
    command = [sys.executable, "-m", "tests.chaos", *options]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 2
    assert re.search(said, ran.stderr)
