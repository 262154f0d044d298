"""Commits groups to a database until it is killed, and prints the number of each one stored.

Group n is the task n and the outcome of task n - 1, so that half a group would show.
"""

import sys
from pathlib import Path

from flame.model.ids import TaskId
from flame.storage.sqlite import SqliteStore
from tests.storage.records import S1, recorded, session_put, submitted


def payload(task_id: int) -> bytes:
    return b"payload of task %d " % task_id * 40


def main() -> None:
    store = SqliteStore(Path(sys.argv[1]))
    recovered = store.load()
    if recovered.sessions:
        task_id: int = recovered.sessions[0].next_task_id
    else:
        store.commit([session_put(S1)], sync=False)
        store.commit([submitted(1, payload(1))], sync=False)
        task_id = 2
    while True:
        store.commit(
            [
                submitted(task_id, payload(task_id), first_number=task_id - 1),
                recorded(task_id - 2, TaskId(task_id - 1)),
            ],
            sync=task_id % 10 == 0,
        )
        print(task_id, flush=True)
        task_id += 1


if __name__ == "__main__":
    main()
