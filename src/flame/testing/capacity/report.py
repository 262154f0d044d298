"""What a simulation came to: figures for people, a document for programs, drawings."""

import json
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flame.model.ids import Tenant
from flame.scheduling.explain import why_waiting
from flame.testing.capacity import plots
from flame.testing.capacity.measures import Measures, Sample
from flame.testing.capacity.run import Run
from flame.testing.capacity.sessions import Session

#: Refused and waiting sessions that a document lists.
MOST_LISTED = 100


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of some seconds. None where there were none."""

    p50: float | None = None
    p90: float | None = None
    p99: float | None = None
    most: float | None = None

    @classmethod
    def of(cls, values: Iterable[float]) -> "Percentiles":
        """Sort, and look up."""
        ordered = sorted(values)
        if not ordered:
            return cls()
        last = len(ordered) - 1
        p50, p90, p99 = (
            round(ordered[min(last, len(ordered) * part // 100)], 3) for part in (50, 90, 99)
        )
        return cls(p50, p90, p99, round(ordered[-1], 3))

    def document(self) -> dict[str, float | None]:
        """Return plain values."""
        return {"p50": self.p50, "p90": self.p90, "p99": self.p99, "max": self.most}


class Report:
    """The figures of one run. All times are virtual seconds.

    Attributes:
        samples: The state of the cluster now and then, the same time apart.
        sessions: Every session that arrived, with when it began and ended.
    """

    def __init__(self, run: Run) -> None:
        self.trace, self.seed, self.ended, self.events = run.trace, run.seed, run.ended, run.events
        self._measures: Measures = run.measures
        self.samples: Sequence[Sample] = run.measures.samples
        self.sessions: Sequence[Session] = run.measures.sessions
        self._by_tenant: dict[Tenant, list[Session]] = {}
        for session in self.sessions:
            self._by_tenant.setdefault(session.load.tenant, []).append(session)
        branches = run.cluster.state.ledger.branches
        self._weights = {name: branch.weight for name, branch in branches.items()}
        self._ledger = run.cluster.state.ledger
        budget = run.cluster.state.budget
        self._refused_for_budget = budget.refused if budget is not None else 0

    def document(self) -> dict[str, Any]:
        """Return everything as plain values. Equal seeds give equal documents."""
        measures, sessions = self._measures, self.sessions
        cluster = self.trace.cluster
        begun = [s for s in sessions if s.began is not None]
        return {
            "trace": self.trace.name,
            "seed": self.seed,
            "policies": list(cluster.policies),
            "seconds": round(self.ended, 3),
            "cluster": {
                "nodes": sum(group.count for group in cluster.nodes),
                "capacity": str(self.samples[-1].capacity) if self.samples else "",
            },
            "sessions": {
                "arrived": len(sessions),
                "begun": len(begun),
                "ended": sum(s.ended is not None and not s.refused for s in sessions),
                "refused": sum(bool(s.refused) for s in sessions),
            },
            "tasks": {
                "submitted": sum(s.tasks for s in sessions if not s.refused),
                "finished": measures.finished,
            },
            "makespan": round(measures.last_finished, 3),
            "utilisation": self._utilisation(),
            "tenants": [self._tenant(name) for name in sorted(self._by_tenant)],
            "tiers": self._tiers(),
            "gangs": self._gangs(),
            "preempted": {
                "tasks": measures.tasks_thrown_away,
                "executor_seconds": round(measures.seconds_thrown_away, 3),
                "refused_by_budget": self._refused_for_budget,
            },
            "refused": [
                {"session": s.name, "tenant": s.load.tenant, "reason": s.refused}
                for s in sessions
                if s.refused
            ][:MOST_LISTED],
            "waiting": [
                {
                    "session": s.name,
                    "tenant": s.load.tenant,
                    "since": round(s.arrived, 3),
                    "reason": why_waiting(self._ledger, s.number) or "",
                }
                for s in sessions
                if s.began is None and s.ended is None and s.tasks
            ][:MOST_LISTED],
        }

    def shares_of(
        self, tenant: str, begins: float = 0.0, ends: float = float("inf")
    ) -> tuple[float, float]:
        """Return what the tenant had and deserved, on average between two times, as cluster parts."""
        samples = [s for s in self.samples if begins <= s.at <= ends]
        shares = [s.shares[Tenant(tenant)] for s in samples if tenant in s.shares]
        if not shares:
            return 0.0, 0.0
        count = len(samples)
        return sum(f.got for f in shares) / count, sum(f.deserved for f in shares) / count

    def write(self, directory: Path | str) -> list[Path]:
        """Write ``report.json`` and the drawings; return what was written."""
        folder = Path(directory)
        folder.mkdir(parents=True, exist_ok=True)
        document = folder / "report.json"
        document.write_text(
            json.dumps(self.document(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        written = [document]
        for name, drawing in plots.draw(self.trace.name, self.samples, self._points()).items():
            drawing.save(folder / f"{name}.svg")
            written.append(folder / f"{name}.svg")
        return written

    # --- parts -------------------------------------------------------------------------------------

    def _utilisation(self) -> dict[str, dict[str, float]]:
        capacity = self._measures.capacity.sums()
        allocated, busy = self._measures.allocated.sums(), self._measures.busy.sums()
        return {
            name: {
                "allocated": round(allocated.get(name, 0.0) / total, 4),
                "busy": round(busy.get(name, 0.0) / total, 4),
            }
            for name, total in capacity.items()
            if total
        }

    def _tenant(self, name: Tenant) -> dict[str, Any]:
        sessions = self._by_tenant[name]
        got, deserved = self._mean_shares(name)
        waits = [v for (tenant, _), w in self._measures.waits.items() if tenant == name for v in w]
        return {
            "tenant": name,
            "weight": self._weights.get(name, 1.0),
            "sessions": len(sessions),
            "tasks_finished": sum(s.finished for s in sessions),
            "executor_seconds": round(self._measures.executor_seconds.get(name, 0.0), 3),
            "share": {
                "got": round(got, 4),
                "deserved": round(deserved, 4),
                "ratio": round(got / deserved, 3) if deserved else None,
            },
            "waiting": Percentiles.of(waits).document(),
        }

    def _mean_shares(self, name: Tenant) -> tuple[float, float]:
        """Over the samples in which the tenant had an open session."""
        shares = [s.shares[name] for s in self.samples if name in s.shares]
        if not shares:
            return 0.0, 0.0
        count = len(shares)
        return sum(f.got for f in shares) / count, sum(f.deserved for f in shares) / count

    def _tiers(self) -> list[dict[str, Any]]:
        tiers = sorted({s.load.priority for s in self.sessions}, reverse=True)
        rows = []
        for tier in tiers:
            mine = [s for s in self.sessions if s.load.priority == tier]
            waits: array[float] = array("d")
            for (_, priority), values in self._measures.waits.items():
                if priority == tier:
                    waits.extend(values)
            rows.append(
                {
                    "priority": tier,
                    "sessions": len(mine),
                    "tasks_finished": sum(s.finished for s in mine),
                    "waiting": Percentiles.of(waits).document(),
                    "begin": Percentiles.of(
                        [s.began - s.arrived for s in mine if s.began is not None]
                    ).document(),
                }
            )
        return rows

    def _gangs(self) -> dict[str, Any]:
        gangs = [s for s in self.sessions if s.load.batch_size > 1 and not s.refused]
        delays = [s.whole - s.arrived for s in gangs if s.whole is not None]
        return {
            "sessions": len(gangs),
            "started": len(delays),
            "start_delay": Percentiles.of(delays).document(),
        }

    def _points(self) -> list[tuple[Tenant, float, float]]:
        return [(name, *self._mean_shares(name)) for name in sorted(self._by_tenant)]
