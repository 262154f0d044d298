import os
import signal
from pathlib import Path

from flame.executor_manager.cell import Running, ServiceEnd
from flame.executor_manager.reports import Ending, report, tail
from flame.executor_manager.surroundings import base_environment
from flame.executor_manager.watch import Overrun
from flame.executor_manager.workplace import socket_directory
from flame.model.attempts import Cause
from flame.wire import frames


def told(
    status: int | None,
    *,
    assigned: bool = True,
    stop_ordered: bool = False,
    out_of_memory: str = "",
    running: Running | None = None,
    service: ServiceEnd | None = None,
    overrun: Overrun | None = None,
) -> frames.ExecutorExited:
    ending = Ending(
        status,
        assigned,
        stop_ordered,
        killed_by_us=False,
        out_of_memory=out_of_memory,
        running=running,
        stderr="the end",
        pid=10,
        overrun=overrun,
        service=service,
    )
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


def test_the_end_of_a_service_that_was_a_program_is_told_in_place_of_its_executors() -> None:
    exit_7 = told(exited(70), running=Running(9, 3, 1), service=ServiceEnd(11, 7))
    assert (exit_7.cause, exit_7.pid, exit_7.exit_code, exit_7.signal) == ("exit", 11, 7, 0)
    said = "the service exited with code 7 while it ran task 9 (attempt 3); the end of its stderr:\nthe end"
    assert exit_7.detail == said
    fault = told(exited(70), service=ServiceEnd(11, -signal.SIGSEGV))
    assert (fault.cause, fault.exit_code, fault.signal) == ("signal", 0, signal.SIGSEGV)
    assert fault.detail.startswith("the service was killed by SIGSEGV;")
    # An executor that was killed while it got its last results out: the service was before it.
    assert told(signal.SIGKILL, service=ServiceEnd(11, 0)).detail.startswith("the service exited")


def test_what_took_the_executor_counts_more_than_how_its_service_ended() -> None:
    service = ServiceEnd(11, 7)
    kernel = "as the kernel ran out of memory"
    memory = told(exited(70), out_of_memory=kernel, service=ServiceEnd(11, -signal.SIGKILL))
    assert (memory.cause, memory.pid, memory.signal) == ("out of memory", 11, signal.SIGKILL)
    assert memory.detail.startswith(f"the service was killed by SIGKILL, {kernel};")
    assert told(exited(70), out_of_memory=kernel, service=service).cause == "out of memory"
    stopped = told(exited(70), stop_ordered=True, service=service)
    assert (stopped.cause, stopped.pid) == ("stopped", 10)
    disk = Overrun(10, Cause.OUT_OF_DISK, "used too much")
    full = told(signal.SIGKILL, overrun=disk, service=service)
    assert (full.cause, full.pid) == ("out of disk", 10)
    assert full.detail.startswith("the executor used too much, and was killed")


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
