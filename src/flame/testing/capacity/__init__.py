"""The capacity simulator: how a cluster would share itself, without the cluster.

    from flame.testing.capacity import read_trace, simulate

    report = simulate(read_trace("trace.yaml"), seed=7, until=3600)
    print(report.document()["utilisation"])
    report.write("report/")

The production engine, core and scheduler run on virtual time. ``flame simulate`` is the same as a
command; ``docs/simulate.md`` describes traces and reports. Traces can be made in Python as well:
:class:`Trace`, :class:`ClusterSpec`, :class:`NodeGroup`, :class:`Listed`, :class:`Generator`,
:class:`Load` and :class:`Distribution` are plain values.
"""

from dataclasses import replace

from flame.model.errors import InvalidRequest
from flame.scheduling.policies import make_policy
from flame.testing.capacity.distributions import Distribution, constant
from flame.testing.capacity.report import Percentiles, Report
from flame.testing.capacity.run import Progress, Run
from flame.testing.capacity.trace import (
    ClusterSpec,
    Generator,
    Listed,
    Load,
    NodeGroup,
    Trace,
    read_trace,
)

__all__ = (
    "ClusterSpec", "Distribution", "Generator", "Listed", "Load", "NodeGroup", "Percentiles", "Progress",
    "Report", "Trace", "constant", "read_trace", "simulate",
)  # fmt: skip


def simulate(
    trace: Trace,
    *,
    seed: int | None = None,
    until: float | None = None,
    policies: tuple[str, ...] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Play a trace and report. Equal traces and seeds give equal reports.

    Args:
        trace: From :func:`read_trace`, or made by hand.
        seed: Instead of the trace's own.
        until: Seconds at which to stop, instead of the trace's own.
        policies: Instead of those in the trace, to compare.
        progress: Told the virtual time now and then.

    Raises:
        InvalidRequest: A value is not allowed, or more arrives than can be simulated.
    """
    if policies is not None:
        make_policy(policies)
        trace = replace(trace, cluster=replace(trace.cluster, policies=policies))
    if until is None:
        until = trace.until
    if until is not None and not 0 < until < float("inf"):
        raise InvalidRequest(f"until is {until:g}; it must be a number of seconds above 0")
    if until is None and any(g.ends is None for g in trace.generators):
        raise InvalidRequest("until is missing, and a generator never ends")
    run = Run(trace, trace.seed if seed is None else seed, until, progress)
    run.run()
    return Report(run)
