"""``flame simulate``: how a cluster would share itself among what a trace says arrives."""

import sys
from typing import Any

import click

from flame.cli.ctl.forms import TABLE, form_option
from flame.cli.outcomes import Command
from flame.cli.progress import bar_line
from flame.cli.tables import document, key_values, table
from flame.testing.capacity import read_trace, simulate

TENANTS = {"Tenant": 20, "Weight": 8, "Sessions": 10, "Tasks": 10, "Got": 8, "Deserved": 10}
TIERS = {"Priority": 10, "Sessions": 10, "Tasks": 10}
SECONDS = ("p50", "p90", "p99", "max")
#: Tenants that a table shows; a document has all.
SHOWN = 20

EXAMPLES = """
\b
Examples:
  flame simulate trace.yaml
  flame simulate trace.yaml --until 3600 --seed 7
  flame simulate trace.yaml --policy priority --policy fifo   to compare
  flame simulate trace.yaml --report out/ -o json             drawings and figures

\b
What a trace says is in docs/simulate.md; examples/simulate has some.
"""


@click.command("simulate", cls=Command, epilog=EXAMPLES)
@click.argument("trace", type=click.Path(dir_okay=False))
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    help="Draw other arrivals and lengths; default: the trace's, or 0.",
)
@click.option(
    "--until",
    type=float,
    metavar="SECONDS",
    help="Stop at this time; default: the trace's, or when all is done.",
)
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="NAME",
    help="Share by this policy instead of the trace's; may be given several times.",
)
@click.option(
    "--report",
    "directory",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Write report.json and drawings (SVG) into this directory.",
)
@click.option("--quiet", is_flag=True, help="Show no progress.")
@form_option
def simulate_command(
    *,
    trace: str,
    seed: int | None,
    until: float | None,
    policies: tuple[str, ...],
    directory: str | None,
    quiet: bool,
    form: str,
) -> None:
    """Play a TRACE on virtual time.

    The scheduler and the core are those of a real cluster.
    """
    read = read_trace(trace)
    report = simulate(
        read,
        seed=seed,
        until=until,
        policies=policies or None,
        progress=None if quiet or not sys.stderr.isatty() else _show,
    )
    if not quiet and sys.stderr.isatty():
        click.echo(err=True)
    figures = report.document()
    click.echo(_tables(figures) if form == TABLE else document(figures, form))
    if directory is not None:
        for path in report.write(directory):
            click.echo(f"wrote {path}", err=True)


def _show(now: float, until: float | None) -> None:
    line = f"{now:,.0f} s" if until is None else bar_line(int(now), int(until) or 1)
    click.echo(f"\r{line}", nl=False, err=True)


def _tables(figures: dict[str, Any]) -> str:
    sessions, tasks, gangs = figures["sessions"], figures["tasks"], figures["gangs"]
    used = [
        f"{name} {part['allocated']:.1%} held, {part['busy']:.1%} at work"
        for name, part in figures["utilisation"].items()
    ]
    parts = [
        key_values(
            [
                ("Trace", f"{figures['trace']}, seed {figures['seed']}"),
                ("Policies", ", ".join(figures["policies"])),
                (
                    "Simulated",
                    f"{figures['seconds']:g} s; the last task ended at {figures['makespan']:g} s",
                ),
                (
                    "Cluster",
                    f"{figures['cluster']['nodes']:,} nodes: {figures['cluster']['capacity']}",
                ),
                ("Use", "\n".join(used)),
                ("Sessions", ", ".join(f"{count:,} {what}" for what, count in sessions.items())),
                ("Tasks", f"{tasks['finished']:,} of {tasks['submitted']:,} finished"),
                ("Preempted", _preempted(figures["preempted"])),
                (
                    "Gangs",
                    f"{gangs['started']:,} of {gangs['sessions']:,} started; delay {_line(gangs['start_delay'])}"
                    if gangs["sessions"]
                    else None,
                ),
            ]
        ),
        _tenants(figures["tenants"]),
        _tiers(figures["tiers"]),
    ]
    parts += [
        f"Refused: session {each['session']} of {each['tenant']}: {each['reason']}"
        for each in figures["refused"][:SHOWN]
    ]
    parts += [
        f"Waiting: session {each['session']} of {each['tenant']}, since {each['since']:g} s: "
        f"{each['reason'] or 'it has not begun'}"
        for each in figures["waiting"][:SHOWN]
    ]
    more = sessions["arrived"] - sessions["begun"] - sessions["refused"] - SHOWN
    if more > 0:
        parts.append(
            f"and {more:,} sessions more that have not begun; -o json says why of the first"
        )
    return "\n\n".join(part for part in parts if part)


def _preempted(preempted: dict[str, Any]) -> str:
    return (
        f"{preempted['tasks']:,} tasks, {preempted['executor_seconds']:g} executor-seconds; "
        f"the budget forbade it {preempted['refused_by_budget']:,} times"
    )


def _tenants(tenants: list[dict[str, Any]]) -> str:
    if not tenants:
        return "No session arrived."
    rows = [
        [
            each["tenant"],
            f"{each['weight']:g}",
            each["sessions"],
            each["tasks_finished"],
            f"{each['share']['got']:.1%}",
            f"{each['share']['deserved']:.1%}",
            *_seconds(each["waiting"]),
        ]
        for each in sorted(tenants, key=lambda each: -each["share"]["got"])[:SHOWN]
    ]
    shown = table({**TENANTS, **_waiting()}, rows)
    more = len(tenants) - SHOWN
    return f"{shown}\nand {more} tenants with less; -o json has all" if more > 0 else shown


def _tiers(tiers: list[dict[str, Any]]) -> str:
    if len(tiers) < 2:
        return ""
    rows = [
        [each["priority"], each["sessions"], each["tasks_finished"], *_seconds(each["waiting"])]
        for each in tiers
    ]
    return table({**TIERS, **_waiting()}, rows)


def _waiting() -> dict[str, int]:
    return {f"Wait {name}": 10 for name in SECONDS}


def _seconds(values: dict[str, float | None]) -> list[str | None]:
    return [None if values[name] is None else f"{values[name]:.4g} s" for name in SECONDS]


def _line(values: dict[str, float | None]) -> str:
    return (
        ", ".join(
            f"{name} {text}" for name, text in zip(SECONDS, _seconds(values), strict=True) if text
        )
        or "-"
    )
