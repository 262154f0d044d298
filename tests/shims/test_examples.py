"""examples/shims, as a newcomer runs them: one application per shim, in a real cluster."""

from pathlib import Path

from tests.compatibility.released import released_python
from tests.e2e.test_examples import ROOT, run

README = ROOT / "examples/shims/README.md"


def test_each_shim_has_an_application_that_counts_words(tmp_path: Path) -> None:
    script = str(ROOT / "examples/shims/run.py")
    result = run(tmp_path, script, "--flamepy-python", released_python())
    assert (result.returncode, result.stderr) == (0, "")
    shown = README.read_text().split("```")[1].partition("run.py\n")[2]
    assert result.stdout == shown
