"""Leads a PostgreSQL store and commits until it is killed or loses it; prints what it stored.

Group n is the task n and the outcome of task n - 1, so that half a group would show.
"""

import sys

from flame.model.errors import WrongState
from flame.model.ids import TaskId
from flame.storage.postgres import PostgresStore
from tests.storage.records import S1, recorded, session_put, submitted


def main() -> None:
    store = PostgresStore(sys.argv[1])
    recovered = store.load(standby=True)
    print("leads", recovered.epoch, flush=True)
    if recovered.sessions:
        task_id: int = recovered.sessions[0].next_task_id
    else:
        store.commit([session_put(S1), submitted(1, b"1")], sync=False)
        task_id = 2
    while True:
        try:
            store.commit(
                [
                    submitted(task_id, b"%d" % task_id, first_number=task_id - 1),
                    recorded(task_id - 2, TaskId(task_id - 1)),
                ],
                sync=False,
            )
        except WrongState as error:
            print("lost", error, flush=True)
            return
        print(task_id, flush=True)
        task_id += 1


if __name__ == "__main__":
    main()
