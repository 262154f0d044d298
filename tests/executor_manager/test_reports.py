import os
import signal
from pathlib import Path

from flame.executor_manager.cell import Running
from flame.executor_manager.reports import Ending, report, tail
from flame.executor_manager.surroundings import base_environment
from flame.executor_manager.workplace import socket_directory
from flame.wire import frames


def told(
    status: int | None,
    *,
    assigned: bool = True,
    stop_ordered: bool = False,
    out_of_memory: str = "",
    running: Running | None = None,
) -> frames.ExecutorExited:
    ending = Ending(status, assigned, stop_ordered, False, out_of_memory, running, "the end")
    return report("e1", 4, ending)


def exited(code: int) -> int:
    return code << 8


def test_a_kill_counts_as_out_of_memory_only_if_the_kernel_says_so() -> None:
    assert told(signal.SIGKILL).cause == "signal"
    kernel = "as the kernel ran out of memory"
    assert told(signal.SIGKILL, out_of_memory=kernel).cause == "out of memory"
    assert told(signal.SIGSEGV, out_of_memory=kernel).cause == "signal"
    # A service that is a program of its own was taken, and the executor ended with it.
    assert told(exited(70), out_of_memory=kernel).cause == "out of memory"
    assert told(exited(3), out_of_memory=kernel).cause == "exit"


def test_a_process_that_never_became_its_executor_never_started() -> None:
    said = told(exited(1), assigned=False)
    assert (said.cause, said.exit_code) == ("never started", 1)
    assert said.detail == (
        "the executor exited with code 1 before it was ready; the end of its stderr:\nthe end"
    )


def test_a_stop_that_was_ordered_is_not_a_failure() -> None:
    said = told(exited(0), stop_ordered=True)
    assert (said.cause, said.detail) == (
        "stopped",
        "the executor was told to stop and exited with code 0",
    )


def test_the_running_task_is_named() -> None:
    said = told(exited(2), running=Running(9, 3, 1))
    assert (said.task_id, said.attempt) == (9, 3)
    assert "while it ran task 9 (attempt 3)" in said.detail


def test_a_status_that_was_lost_with_the_guardian_is_a_kill() -> None:
    assert (told(None).cause, told(None).signal) == ("signal", 9)


def test_the_tail_is_the_end_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "err").write_bytes(b"x" * 5000 + b"\xff end\n")
    assert tail(str(tmp_path / "err")).endswith("x\ufffd end")
    assert len(tail(str(tmp_path / "err"))) <= 4096
    assert tail(str(tmp_path / "absent")) == ""


def test_executors_get_the_environment_without_what_is_flames_own() -> None:
    own = {"PATH": "/bin", "FLAME_TOKEN": "t", "FLAME_TOKEN_FILE": "f", "FLAME_LOG": "debug"}
    assert base_environment(own) == {"PATH": "/bin", "FLAME_LOG": "debug"}


def test_sockets_go_where_their_paths_are_short_enough(tmp_path: Path) -> None:
    short, long = str(tmp_path)[:30], str(tmp_path / ("x" * 100))
    assert len(socket_directory(long)) < 60
    os.rmdir(socket_directory(long))
    if len(str(tmp_path)) < 45:
        assert socket_directory(short) == os.path.join(short, "sockets")
