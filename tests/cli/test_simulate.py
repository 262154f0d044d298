"""``flame simulate``: what it prints, and what it says of a trace that is wrong."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from flame.cli.flame import flame

CLUSTER = 'cluster:\n  nodes:\n    n: {count: 2, resources: "cpu=2,mem=4g"}\n'


def run(tmp_path: Path, text: str, *options: str) -> Result:
    trace = tmp_path / "trace.yaml"
    trace.write_text(text)
    return CliRunner().invoke(flame, ["simulate", str(trace), *options])


def test_it_reports_in_json_and_draws(tmp_path: Path) -> None:
    text = f"{CLUSTER}sessions:\n  - {{tasks: 12, task_length: 2}}\n"
    result = run(tmp_path, text, "-o", "json", "--report", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["tasks"] == {"submitted": 12, "finished": 12}
    assert figures["makespan"] == 6.5  # three rounds of four executors, after their start
    drawn = {path.name for path in (tmp_path / "out").iterdir()}
    assert drawn == {"report.json", "shares.svg", "fairness.svg", "utilisation.svg"}


def test_a_request_that_fits_no_node_is_refused_and_the_rest_goes_on(tmp_path: Path) -> None:
    text = (
        f"{CLUSTER}sessions:\n"
        '  - {tasks: 1, task_length: 1, resources: "cpu=64,mem=1g"}\n'
        "  - {tasks: 1, task_length: 1}\n"
    )
    result = run(tmp_path, text)
    assert result.exit_code == 0
    assert "1 of 1 finished" in result.output
    assert "which no node has" in result.output


def test_a_gang_that_never_begins_says_what_it_waits_for(tmp_path: Path) -> None:
    text = f"{CLUSTER}sessions:\n  - {{tasks: 90, task_length: 1, batch_size: 90}}\n"
    result = run(tmp_path, text)
    assert result.exit_code == 0
    assert (
        "Waiting: session s1 of default, since 0 s: needs 90 executors at once, 4 fit"
        in result.output
    )


def test_of_many_sessions_that_never_began_it_says_how_many(tmp_path: Path) -> None:
    gang = "  - {tasks: 90, task_length: 1, batch_size: 90}\n"
    result = run(tmp_path, f"{CLUSTER}sessions:\n{gang * 23}")
    assert result.output.count("Waiting: session") == 20
    assert "and 3 sessions more that have not begun" in result.output


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    text = f"{CLUSTER}sessions:\n  - {{tasks: 1, task_length: 1}}\n"
    (tmp_path / "file").touch()
    result = run(tmp_path, text, "--report", str(tmp_path / "file" / "out"))
    assert result.exit_code == 1
    assert f"Error: {tmp_path / 'file' / 'out'}: Not a directory" in result.output


@pytest.mark.parametrize("until", ["1", "0.001"])
def test_nothing_may_arrive(tmp_path: Path, until: str) -> None:
    late = f"{CLUSTER}sessions:\n  - {{at: 5, tasks: 1, task_length: 1}}\n"
    for text in (late, CLUSTER):
        result = run(tmp_path, text, "--until", until, "--report", str(tmp_path / "out"))
        assert result.exit_code == 0, result.output
        assert "No session arrived." in result.output


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        ("cluster: [", "not YAML"),
        ("cluster: 3\n", "trace.yaml:1: cluster is 3; it must be a mapping"),
        ("cluster:\n  nodes: {}\n", "trace.yaml:2: cluster.nodes has no group"),
        (
            'cluster:\n  nodes:\n    n: {count: -3, resources: "cpu=1"}\n',
            "trace.yaml:3: cluster.nodes.n.count is -3; it must be a whole number from 1",
        ),
        ("cluster:\n  nodes:\n    n: {count: 1}\n", "cluster.nodes.n.resources is missing"),
        (f"{CLUSTER}untl: 5\n", "trace.yaml:4: untl is not known; allowed here are"),
        (f"{CLUSTER}until: 5\nuntil: 6\n", "until is there twice"),
        (f"{CLUSTER}until: .nan\n", "until is nan; it must be a number above 0"),
        (f"{CLUSTER}  policies: [luck]\n", "cluster.policies[0] is 'luck'; it must be one of"),
        (f"{CLUSTER}  tenants: {{a: {{weight: 0}}}}\n", "cluster.tenants.a.weight is 0"),
        (f"{CLUSTER}  tenants: {{a/b: {{}}}}\n", "parent 'a' does not exist"),
        (f"{CLUSTER}sessions:\n  - {{tasks: 1}}\n", "sessions[0].task_length is missing"),
        (f"{CLUSTER}sessions:\n  - {{task_length: 0}}\n", "it must be a number above 0"),
        (
            f"{CLUSTER}sessions:\n  - {{task_length: {{normal: {{}}}}}}\n",
            "sessions[0].task_length.normal is not known",
        ),
        (
            f"{CLUSTER}sessions:\n  - {{task_length: 1, batch_size: 3, max_instances: 4}}\n",
            "max_instances is 4; it must be a multiple of batch_size, which is 3",
        ),
        (
            f"{CLUSTER}sessions:\n  - {{task_length: 1, require: zone}}\n",
            "sessions[0].require is wrong: require: 'zone' is not name=value",
        ),
        (
            f"{CLUSTER}sessions:\n  - {{task_length: 1, prefer: 'zone=a:much'}}\n",
            "sessions[0].prefer is wrong: prefer: the weight in 'zone=a:much' must be",
        ),
        (
            f"{CLUSTER}generators:\n  - {{task_length: 1, arrivals: {{poisson: 1}}}}\n",
            "generators[0] never ends",
        ),
        (
            f"{CLUSTER}until: 1\ngenerators:\n  - {{task_length: 1, arrivals: {{every: 0}}}}\n",
            "generators[0].arrivals.every is 0",
        ),
    ],
)
def test_a_wrong_trace_is_refused_with_line_and_key(
    tmp_path: Path, text: str, complaint: str
) -> None:
    result = run(tmp_path, text)
    assert result.exit_code == 1
    assert complaint in result.output
    assert "Traceback" not in result.output


def test_other_policies_may_be_compared(tmp_path: Path) -> None:
    text = f"{CLUSTER}sessions:\n  - {{tasks: 1, task_length: 1}}\n"
    assert "Policies:   fifo\n" in run(tmp_path, text, "--policy", "fifo").output
    result = run(tmp_path, text, "--policy", "luck")
    assert result.exit_code == 1
    assert "'luck' is unknown; allowed are" in result.output
