"""Tasks per second: all at once, and with a bounded number outstanding; and as a part of what the
same frames reach with no Flame in between, in the same run.

After the durable tasks the session manager is killed, and the outcomes in its file are counted.
"""

import argparse
from typing import Any

from benchmarks import raw_transport
from benchmarks.clusters import WARM_TASKS, Bench, bench
from benchmarks.options import Rounds, parse
from benchmarks.peers import compare
from benchmarks.raw_transport import Figure, InTurn
from benchmarks.report import report, summary
from benchmarks.work import Payloads, bulk, closed_loop

SMALL = 10_000  # tasks of the small run


def measure(
    cluster: Bench, rounds: Rounds, raw: InTurn | None = None
) -> tuple[list[dict[str, Any]], str]:
    """The rows of one durability; and what is in the file after ``kill -9``, if there is one.

    ``raw`` has a round after each of ours, and the rows say what part of its rates ours are.
    """
    payloads = Payloads(seed=1)
    rates: dict[Figure, list[float]] = {}
    parts: dict[Figure, list[float]] = {}
    bulks = [(size, count) for size in (16, 1024) for count in (SMALL, rounds.many)]
    loops = [each for each in raw_transport.LOOPS if cluster.durability != "sync" or each[0] == 64]
    finished = WARM_TASKS
    session = cluster.session(min_instances=cluster.executors)  # ends with its cluster
    cluster.warm(session)
    for _ in range(rounds.count):
        for size, count in bulks:
            work = payloads.make(count, size)
            rates.setdefault(Figure("bulk", size, count), []).append(count / bulk(session, work))
            finished += count
        for outstanding, count in loops:
            work = payloads.make(rounds.scaled(count))
            rate = len(work) / closed_loop(session, work, outstanding)
            figure = Figure(f"{outstanding} outstanding", 16, len(work))
            rates.setdefault(figure, []).append(rate)
            finished += len(work)
        if raw is not None:
            for figure, rate in raw.round().items():
                parts.setdefault(figure, []).append(rates[figure][-1] / rate)
    rows = [
        {
            **cluster.labels(),
            **figure._asdict(),
            "unit": "tasks/s",
            **summary(values),
            "ms": figure.tasks / summary(values)["median"] * 1000,
            **({"of raw": summary(parts[figure])["median"]} if figure in parts else {}),
        }
        for figure, values in rates.items()
    ]
    if cluster.durability == "memory":
        return rows, ""
    # At once, with the session open: nothing is written any more because it ends in order.
    found = cluster.outcomes_after_kill(session.number)
    rows.append({**cluster.labels(), "mode": "kill -9", "tasks": finished, "in file": found})
    assert found == finished, f"{found} of {finished} outcomes are in the file after kill -9"
    return rows, f"outcomes in the file after kill -9: {found:,} of {finished:,}"


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--peers", action="store_true", help="other systems too, where installed")
    chosen, rounds = parse(options)
    rows: list[dict[str, Any]] = []
    notes = []
    with InTurn(rounds) as raw:
        for durability in ("durable", "sync", "memory"):
            storage = "memory" if durability == "memory" else "sqlite"
            with bench(storage) as cluster:
                beside = raw if durability == "durable" else None
                found, note = measure(cluster.with_durability(durability), rounds, beside)
                rows += found
                if note:
                    notes.append(f"{durability}: {note}")
            if beside is not None:
                rows += [row for row in raw.rows() if row["unit"] == "tasks/s"]
    if chosen.peers:
        rows += compare.rows("throughput", rounds)
    report("throughput", rows, "first submit to last result, session warm, 2 executors")
    print("\n".join(notes))


if __name__ == "__main__":
    main()
