"""The checker: what clients and services wrote down, and a dump of the store, against the promises.

It reads files only (see ``evidence``), so whatever it says can be looked up again:

    client.jsonl      a line for each task: what was submitted, acknowledged, and told as its outcome
    service/*.log     a line for each execution: session, task, attempt, pid
    store.jsonl       a line for each task as the store has it
    log.jsonl         a line for each batch of the store's outcome logs
    losses.jsonl      a line for each lease that the store says was lost

P1 nothing acknowledged is lost; P2 one outcome, which never changes; P3 an execution more only after
a lost lease or a failure that is tried again, and bounded; P4 no result of a lost lease counts: the
output is f(input), and told as it is stored. Counts are conserved.
"""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flame.model.specs import TaskState

SUCCEEDED, FAILED, CANCELLED = (
    int(TaskState.SUCCEEDED),
    int(TaskState.FAILED),
    int(TaskState.CANCELLED),
)
MOST_PROBLEMS = 20


@dataclass(slots=True)
class Verdict:
    """What the checker found."""

    acknowledged: int = 0
    executed: int = 0
    lost: int = 0
    duplicated: int = 0
    problems: list[str] = field(default_factory=list)

    def object(self, text: str) -> None:
        """Add a broken promise."""
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(text)


class Evidence:
    """The files of one run, read."""

    def __init__(self, directory: Path) -> None:
        self.client = list(_lines(directory / "client.jsonl"))
        self.sessions: dict[int, dict[str, Any]] = {
            line["session"]: line for line in _lines(directory / "sessions.jsonl")
        }
        self.store = {
            (line["session"], line["task"]): line for line in _lines(directory / "store.jsonl")
        }
        self.log = list(_lines(directory / "log.jsonl"))
        self.losses = list(_lines(directory / "losses.jsonl"))
        self.executions: list[tuple[str, int, int, int]] = []
        for path in sorted(directory.glob("service/*.log")):
            for line in path.read_text().splitlines():
                session, task, attempt, pid = line.split()
                self.executions.append((session, int(task), int(attempt), int(pid)))


def check(directory: Path) -> Verdict:
    """Compare the files of a run."""
    evidence, verdict = Evidence(directory), Verdict()
    _acknowledged(evidence, verdict)
    _outcomes(evidence, verdict)
    _log(evidence, verdict)
    _executions(evidence, verdict)
    _conservation(evidence, verdict)
    return verdict


def _acknowledged(evidence: Evidence, verdict: Verdict) -> None:
    seen: Counter[tuple[int, int]] = Counter()
    for line in evidence.client:
        if line["task"] is None:
            continue
        verdict.acknowledged += 1
        key = line["session"], line["task"]
        seen[key] += 1
        stored = evidence.store.get(key)
        if stored is None:
            verdict.lost += 1
            verdict.object(f"P1: task {key} was acknowledged and is not in the store")
        elif stored["input"] != line["input"]:
            verdict.lost += 1
            verdict.object(f"P1: task {key} was acknowledged with another input than is stored")
    for key, times in seen.items():
        if times > 1:
            verdict.duplicated += 1
            verdict.object(f"P2: {times} submits were acknowledged as the same task {key}")


def _outcomes(evidence: Evidence, verdict: Verdict) -> None:
    for line in evidence.client:
        key = line["session"], line["task"]
        if len(line["outcomes"]) != 1:
            if len(line["outcomes"]) > 1:
                verdict.duplicated += 1
            verdict.object(f"P2: task {key} was told {len(line['outcomes'])} outcomes")
            continue
        state, code, output, text = line["outcomes"][0]
        stored = evidence.store.get(key)
        if stored is not None and (stored["state"], stored["code"], stored["output"]) != (
            state,
            code,
            output,
        ):
            verdict.lost += 1
            verdict.object(
                f"P2: task {key} was told (state, code) {state, code}; "
                f"{stored['state'], stored['code']} is stored"
            )
        value = line["input"]
        if state == SUCCEEDED:
            if line["must_fail"]:
                verdict.object(f"task {key}, {_readable(value)}, succeeded; it cannot")
            elif output != line["expected"]:
                verdict.object(
                    f"P4: task {key}, {_readable(value)}, returned {output!r:.60}, not f(input)"
                )
        elif str(code) not in line["allowed"]:
            verdict.object(f"task {key}, {_readable(value)}, ended with code {code}: {text[:300]}")
        elif line["allowed"][str(code)] not in text:
            verdict.object(
                f"task {key}, {_readable(value)}: {line['allowed'][str(code)]!r} is not in its reason: "
                f"{text[:300]}"
            )


def _readable(value: str) -> str:
    try:
        return repr(bytes.fromhex(value[:80]))
    except ValueError:
        return value  # a hash


def _log(evidence: Evidence, verdict: Verdict) -> None:
    positions: Counter[int] = Counter()
    seen: Counter[tuple[int, int]] = Counter()
    for batch in evidence.log:
        session = batch["session"]
        if batch["position"] != positions[session]:
            verdict.object(
                f"P2: session {session} has outcomes from {batch['position']} where "
                f"{positions[session]} is next"
            )
        positions[session] = batch["position"] + len(batch["tasks"])
        seen.update((session, task) for task in batch["tasks"])
    for key, times in seen.items():
        if times > 1:
            verdict.duplicated += 1
            verdict.object(f"P2: the store has {times} outcomes of task {key}")
        if key not in evidence.store:
            verdict.object(f"P2: the store has an outcome of task {key}, which it does not have")


def _executions(evidence: Evidence, verdict: Verdict) -> None:
    verdict.executed = len(evidence.executions)
    names = {line["name"]: number for number, line in evidence.sessions.items()}
    lost: Counter[tuple[int, int]] = Counter()
    for loss in evidence.losses:
        lost.update((loss["session"], task) for task in loss["tasks"])
    runs: Counter[tuple[int, int]] = Counter()
    for name, task, attempt, _ in evidence.executions:
        number = names.get(name)
        if number is None:
            continue
        runs[number, task] += 1
        if attempt > evidence.sessions[number]["most_attempts"]:
            verdict.object(f"P3: task {number, task} ran as attempt {attempt}")
        if (number, task) not in evidence.store:
            verdict.object(f"P3: task {number, task} ran and is not in the store")
    for key, times in runs.items():
        if times - 1 > lost[key]:
            verdict.object(f"P3: task {key} ran {times} times; {lost[key]} leases of it were lost")
    for key, stored in evidence.store.items():
        shown = evidence.sessions.get(key[0])
        if shown and shown["logged"] and stored["state"] == SUCCEEDED and not runs[key]:
            verdict.object(f"P3: task {key} succeeded and never ran")


def _conservation(evidence: Evidence, verdict: Verdict) -> None:
    counted: Counter[tuple[int, int]] = Counter()
    accepted: Counter[int] = Counter()
    for (session, _), stored in evidence.store.items():
        accepted[session] += 1
        counted[session, stored["state"]] += 1
    for number, line in evidence.sessions.items():
        shown = (line["succeeded"], line["failed"], line["cancelled"])
        stored_counts = tuple(counted[number, s] for s in (SUCCEEDED, FAILED, CANCELLED))
        total = sum(shown) + line["pending"] + line["running"]
        if shown != stored_counts or total != accepted[number]:
            verdict.object(
                f"session {number} shows {shown} succeeded, failed, cancelled and {total} in all; "
                f"the store has {stored_counts} and {accepted[number]}"
            )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    if path.exists():
        with path.open() as file:
            for line in file:
                yield json.loads(line)
