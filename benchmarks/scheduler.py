"""The scheduler alone: one pass after one session changed, and a full pass from nothing."""

import argparse
import gc
import random
import statistics
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from typing import Any

from benchmarks.options import Rounds, parse
from benchmarks.report import labels, percentile, report
from flame.model.ids import ExecutorId, NodeName, SessionNumber, Tenant
from flame.model.resources import GIB, Resources
from flame.model.tenants import TenantSpec, check_tree
from flame.scheduling.facts import Holding, Machine, Wish
from flame.scheduling.ledger import Ledger
from flame.scheduling.policies import make_policy
from flame.scheduling.scheduler import Scheduler
from flame.scheduling.steps import Assign, Evict, Plan, Release

SESSIONS = 1000
NODES = 1000
EXECUTORS_PER_NODE = 10
UNIT = Resources(1000, GIB)

Row = dict[str, Any]


class Driver:
    """Tells the ledger what the core would."""

    def __init__(self, tenants: int, shapes: int, wanted: int) -> None:
        self.random = random.Random(7)
        self.tenants = tenants
        self.shapes = [UNIT * (1 + n % 4) for n in range(shapes)]
        if shapes > 4:
            self.shapes = [Resources(1000 + 10 * n, GIB) for n in range(shapes)]
        self.wanted = wanted
        self.executors: dict[ExecutorId, Holding] = {}
        self.wishes: dict[SessionNumber, Wish] = {}
        self._made = 0

    def fill(self) -> Ledger:
        """A ledger that knows everything and has planned nothing."""
        self.ledger = Ledger(make_policy(["priority", "fair_share"]))
        specs = [TenantSpec(Tenant(f"t{n}"), 1.0 + n % 3) for n in range(self.tenants)]
        self.ledger.put_tenants(check_tree(specs).values())
        for n in range(NODES):
            self.ledger.put_machine(
                Machine(NodeName(f"node-{n:04}"), UNIT * EXECUTORS_PER_NODE, ())
            )
        for n in range(SESSIONS):
            tenant = Tenant(f"t{n % self.tenants}") if self.tenants else Tenant("default")
            request = self.shapes[n % len(self.shapes)]
            self.put(Wish(SessionNumber(n), tenant, "app", n, request, self.wanted))
        return self.ledger

    def put(self, wish: Wish) -> None:
        self.wishes[wish.session] = wish
        self.ledger.put_wish(wish)

    def do(self, plan: Plan) -> None:
        for step in plan:
            if isinstance(step, Assign):
                self._made += 1
                wish = self.wishes[step.session]
                name = ExecutorId(str(self._made))
                holding = Holding(name, step.node, wish.request, wish.tenant, "app", step.session)
                self.executors[name] = holding
                self.ledger.put_holding(holding)
            elif isinstance(step, Release):
                mine = [
                    e
                    for e in self.executors.values()
                    if e.session == step.session and not e.leaving and e.node == step.node
                ]
                for holding in mine[: step.count]:
                    self.executors[holding.executor] = replace(holding, leaving=True)
                    self.ledger.put_holding(self.executors[holding.executor])
            else:
                assert isinstance(step, Evict)

    def leave(self, holding: Holding) -> None:
        del self.executors[holding.executor]
        self.ledger.drop_holding(holding.executor)


def timed(ledger: Ledger) -> tuple[float, Plan]:
    gc.collect()
    begin = time.perf_counter()
    plan = Scheduler().plan(ledger)
    return time.perf_counter() - begin, plan


def full(driver: Driver, rounds: int) -> list[float]:
    times = []
    for _ in range(rounds):
        driver.executors.clear()
        seconds, plan = timed(driver.fill())
        times.append(seconds)
        driver.do(plan)
        while driver.ledger.returning:
            settle(driver)
    settle(driver)
    return times


def settle(driver: Driver) -> None:
    for _ in range(20):
        plan = Scheduler().plan(driver.ledger)
        driver.do(plan)
        leaving = [e for e in driver.executors.values() if e.leaving]
        for holding in leaving:
            driver.leave(holding)
        if not plan and not leaving:
            return


def changes(driver: Driver, count: int) -> dict[str, list[float]]:
    """One change each, with the report of it, then the pass; what it decides is carried out."""
    times: dict[str, list[float]] = {"wants more": [], "wants less": [], "executor gone": []}
    scheduler, ledger = Scheduler(), driver.ledger
    gc.collect()
    gc.disable()
    for _ in range(count):
        session = SessionNumber(driver.random.randrange(SESSIONS))
        wish = driver.wishes[session]
        mine = [e for e in driver.executors.values() if e.session == session and not e.leaving]
        for name, wanted in (("wants less", len(mine) - 1), ("wants more", driver.wanted + 1)):
            changed = replace(wish, wanted=max(0, wanted))
            begin = time.perf_counter()
            driver.put(changed)
            plan = scheduler.plan(ledger)
            times[name].append(time.perf_counter() - begin)
            driver.do(plan)
        holding = driver.random.choice(list(driver.executors.values()))
        begin = time.perf_counter()
        driver.leave(holding)
        plan = scheduler.plan(ledger)
        times["executor gone"].append(time.perf_counter() - begin)
        driver.do(plan)
        settle(driver)
    gc.enable()
    return times


def measure(name: str, tenants: int, shapes: int, wanted: int, rounds: Rounds) -> list[Row]:
    """One cluster's rows: a full pass, then one change of each kind."""
    driver = Driver(tenants, shapes, wanted)
    passes = {"from nothing": full(driver, rounds.count)}
    passes.update(changes(driver, rounds.scaled(100)))
    return [
        {
            **labels("(no storage)", "-"),
            "cluster": name,
            "pass": kind,
            "ms": statistics.median(times) * 1000,
            "p99 ms": percentile(sorted(times), 99) * 1000,
            "executors": len(driver.executors),
            "rounds": len(times),
        }
        for kind, times in passes.items()
    ]


CASES = (
    ("200 tenants, contended", 200, 1, 20),
    ("one tenant, contended", 0, 1, 20),
    ("200 tenants, 4 sizes", 200, 4, 20),
    ("200 tenants, 1,000 sizes", 200, 1000, 20),
    ("200 tenants, all satisfied", 200, 1, 10),
)


def main() -> None:
    _, rounds = parse(argparse.ArgumentParser(description=__doc__))
    rows: list[Row] = []
    # A process for each cluster, as a session manager has one: where the memory of one that is gone
    # is used again, all that belongs together lies apart, and a pass takes twice as long.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        for case in CASES:
            rows.extend(processes.submit(measure, *case, rounds).result())
    report("scheduler", rows, f"{SESSIONS:,} sessions, {NODES:,} nodes, 10,000 unit executors")


if __name__ == "__main__":
    main()
