"""The checker objects to evidence of every kind of broken promise, and to nothing else."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.checker import check
from tests.chaos.services import transform

Lines = dict[str, list[dict[str, Any]]]


def sound() -> Lines:
    """The evidence of three tasks: one succeeded at its second run, one failed, one was cancelled."""
    values = [b"ok 1", b"kill 2", b"ok 3"]
    client: list[dict[str, Any]] = [
        {
            "session": 1,
            "task": number,
            "input": value.hex(),
            "expected": transform(value).hex(),
            "allowed": {"5": "SIGKILL"} if number == 2 else {"4": ""},
            "must_fail": number == 2,
            "outcomes": [
                [
                    (2, 0, transform(value).hex(), ""),
                    (3, 5, None, "killed by SIGKILL"),
                    (4, 4, None, "cancelled"),
                ][number - 1]
            ],
        }
        for number, value in enumerate(values, 1)
    ]
    store = [
        {
            "session": 1,
            "task": line["task"],
            "input": line["input"],
            "state": line["outcomes"][0][0],
            "code": line["outcomes"][0][1],
            "output": line["outcomes"][0][2],
        }
        for line in client
    ]
    session = {
        "session": 1,
        "name": "s",
        "logged": True,
        "most_attempts": 3,
        "pending": 0,
        "running": 0,
        "succeeded": 1,
        "failed": 1,
        "cancelled": 1,
    }
    return {
        "client": client,
        "store": store,
        "sessions": [session],
        "log": [
            {"session": 1, "position": 0, "tasks": [2, 1]},
            {"session": 1, "position": 2, "tasks": [3]},
        ],
        "losses": [{"session": 1, "tasks": [1, 2], "cause": "signal"}],
        "executions": [{"text": "s 1 1 11"}, {"text": "s 2 1 11"}, {"text": "s 1 1 12"}],
    }


def checked(evidence: Lines, directory: Path) -> list[str]:
    (directory / "service").mkdir()
    executions = evidence.pop("executions")
    (directory / "service" / "1.log").write_text("".join(f"{e['text']}\n" for e in executions))
    for name, lines in evidence.items():
        (directory / f"{name}.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    return check(directory).problems


def test_sound_evidence_is_good(tmp_path: Path) -> None:
    assert checked(sound(), tmp_path) == []


def _drop_acknowledged(e: Lines) -> None:
    del e["store"][0]


def _other_input(e: Lines) -> None:
    e["store"][0]["input"] = b"another".hex()


def _told_twice(e: Lines) -> None:
    e["client"][0]["outcomes"] *= 2


def _never_told(e: Lines) -> None:
    e["client"][0]["outcomes"] = []


def _stored_twice(e: Lines) -> None:
    e["log"].append({"session": 1, "position": 3, "tasks": [1]})


def _changed(e: Lines) -> None:
    e["store"][0]["output"] = b"changed".hex()


def _of_another(e: Lines) -> None:
    e["client"][0]["outcomes"][0] = (2, 0, b"another's".hex(), "")
    e["store"][0]["output"] = b"another's".hex()


def _same_task_twice(e: Lines) -> None:
    e["client"].append(e["client"][0])


def _ran_again(e: Lines) -> None:
    e["losses"] = []


def _ran_too_often(e: Lines) -> None:
    e["executions"].append({"text": "s 2 4 13"})


def _never_ran(e: Lines) -> None:
    e["executions"] = []


def _wrong_cause(e: Lines) -> None:
    e["client"][1]["outcomes"][0] = (3, 5, None, "exited with code 1")


def _failed_for_nothing(e: Lines) -> None:
    e["client"][0]["outcomes"][0] = (3, 5, None, "lost")
    e["store"][0].update(state=3, code=5, output=None)


def _miscounted(e: Lines) -> None:
    e["sessions"][0]["succeeded"] = 2


def _gap(e: Lines) -> None:
    e["log"][1]["position"] = 3


@pytest.mark.parametrize(
    "spoil",
    [
        _drop_acknowledged,
        _other_input,
        _told_twice,
        _never_told,
        _stored_twice,
        _changed,
        _of_another,
        _same_task_twice,
        _ran_again,
        _ran_too_often,
        _never_ran,
        _wrong_cause,
        _failed_for_nothing,
        _miscounted,
        _gap,
    ],
)
def test_a_broken_promise_is_noticed(spoil: Callable[[Lines], None], tmp_path: Path) -> None:
    evidence = sound()
    spoil(evidence)
    assert checked(evidence, tmp_path)
