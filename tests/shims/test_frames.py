"""Answers that repeat their task's id, in both ways of framing."""

import sys
from pathlib import Path

import pytest

from flame.executor_manager.outbox import Failed
from flame.model.specs import ApplicationSpec, ShimKind
from tests.shims.test_contract import running

#: Answers what its task says, word for word; to enter, that nothing is to be said.
PARROTS = {
    "length": r"""
import sys
while line := sys.stdin.buffer.readline():
    verb, *_, length = line.split()
    data = b"" if length == b"-" else sys.stdin.buffer.read(int(length))
    sys.stdout.buffer.write(data if verb == b"TASK" else b"OK -\n")
    sys.stdout.flush()
""",
    "lines": r"""
import base64, json, sys
for line in sys.stdin:
    [(verb, fields)] = json.loads(line).items()
    print(base64.b64decode(fields["input"]).decode() if verb == "task" else '{"ok": null}', flush=True)
""",
}


def parrot(frames: str) -> ApplicationSpec:
    return ApplicationSpec(
        shim=ShimKind.STDIO,
        command=sys.executable,
        arguments=("-S", "-c", PARROTS[frames]),
        shim_options=(("frames", frames),),
    )


@pytest.mark.parametrize(
    ("frames", "right", "wrong", "broken"),
    [
        ("length", b"OK 2 1\nhi", b"OK 2 7\nhi", b"OK 2 seven\nhi"),
        ("length", b"OK 2\nhi", b"FAIL 2 7\nhi", b"OK 2 1 1\nhi"),
        ("lines", b'{"ok": "aGk=", "id": 1}', b'{"ok": "aGk=", "id": 7}', b'{"ok": "", "id": "1"}'),
        ("lines", b'{"ok": "aGk="}', b'{"id": 7, "failed": "x"}', b'{"ok": "", "id": true}'),
    ],
)
def test_an_answer_may_say_which_task_it_is_of_and_is_held_to_it(
    tmp_path: Path, frames: str, right: bytes, wrong: bytes, broken: bytes
) -> None:
    with running(tmp_path, parrot(frames)) as own:
        own.enter()
        assert own.task(right) == b"hi"
        for answer, said in (
            (wrong, "answered task 7, but task 1 was asked"),
            (broken, "must write"),
        ):
            failed = own.task(answer)
            assert isinstance(failed, Failed)
            assert said in failed
            assert own.task(right) == b"hi"  # by a new program
