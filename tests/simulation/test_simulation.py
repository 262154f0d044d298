"""Whole clusters in virtual time, from seeds: no promise breaks, whatever fails.

A failing seed is printed with the line that replays it. ``FLAME_SIMULATION_SEEDS`` (default 300) says
how many are played, ``FLAME_SIMULATION_FIRST`` (default 0) where they start: for long runs at night.
"""

import os
from pathlib import Path

import pytest

from flame.core import connecting
from flame.core.events import ExecutorConnected
from flame.core.executor import Executor
from flame.core.session import Session
from flame.core.state import State
from flame.engine.engine import Engine, Group
from flame.model.ids import TaskId
from flame.model.specs import ExecutorState
from flame.storage.sqlite.store import SqliteStore
from flame.testing import planted
from flame.testing.machine import machine_of
from flame.testing.simulation import Simulation
from flame.testing.witness import Broken

FIRST = int(os.environ.get("FLAME_SIMULATION_FIRST", "0"))
SEEDS = int(os.environ.get("FLAME_SIMULATION_SEEDS", "300"))
CHUNK = 25
MACHINE_EVERY = (
    10  # seeds: these are played a second time, with the SQLite store and losses of power
)

#: Seeds that once found a bug. They stay.
KEPT: tuple[int, ...] = (97, 140, 347, 446, 1462, 2473, 3458, 10021, 10030, 41780)
#: The same, on a machine that loses power.
KEPT_WITH_MACHINE: tuple[int, ...] = (362, 2120, 6100, 6350)


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, CHUNK))
def test_no_promise_breaks_whatever_fails(first: int) -> None:
    for seed in range(first, min(first + CHUNK, FIRST + SEEDS)):
        if seed % MACHINE_EVERY == 0:
            with machine_of(seed) as machine:
                Simulation(seed, machine=machine).run()
        Simulation(seed).run()


@pytest.mark.parametrize("seed", KEPT)
def test_a_seed_that_once_found_a_bug_passes(seed: int) -> None:
    Simulation(seed).run()


def test_time_goes_on_when_the_clock_has_jumped() -> None:
    """Where the manager's clock is the world's and a jump, their sum is rounded."""
    with machine_of(1890) as machine:
        Simulation(1890, machine=machine).run()


@pytest.mark.parametrize("seed", KEPT_WITH_MACHINE)
def test_a_seed_that_once_found_a_bug_passes_on_a_machine(seed: int) -> None:
    with machine_of(seed) as machine:
        Simulation(seed, machine=machine).run()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_equal_seeds_give_equal_histories(seed: int) -> None:
    assert Simulation(seed).run() == Simulation(seed).run()


def test_different_seeds_give_different_histories() -> None:
    assert Simulation(1).run().digest != Simulation(2).run().digest


def test_equal_seeds_give_equal_histories_on_a_machine_that_loses_power() -> None:
    def run(seed: int) -> str:
        with machine_of(seed) as machine:
            simulation = Simulation(seed, machine=machine)
            simulation.run()
            return simulation.world.story()

    stories = [run(seed) for seed in range(60)]
    lossy = [seed for seed, story in enumerate(stories) if "groups lost" in story]
    assert len(lossy) >= 3
    assert any("clock jumps" in story for story in stories)
    assert [run(seed) for seed in lossy] == [stories[seed] for seed in lossy]


def test_a_sync_session_that_is_not_synced_is_noticed_when_the_power_goes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    class NeverSyncs(Engine):
        def take_group(self) -> Group | None:
            group = super().take_group()
            return Group(group.records, sync=False) if group is not None else None

    for seed in range(60):
        try:
            with machine_of(seed) as machine:
                Simulation(seed, engine_of=NeverSyncs, machine=machine).run()
        except Broken as error:
            if "a loss of power took" not in str(error):
                raise
            assert f"flame.testing.simulation {seed} --machine" in capsys.readouterr().out
            return
    pytest.fail("60 seeds did not notice")


def test_streams_break_between_a_binding_and_the_tasks_that_come_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A moment of a few milliseconds, which faults at random times never met."""
    agree = connecting._agree
    seen: list[TaskId] = []

    def look(
        state: State, session: Session, executor: Executor, hello: ExecutorConnected, now: float
    ) -> None:
        if executor.state is ExecutorState.BINDING:
            seen.extend(task_id for task_id in executor.held if task_id not in hello.task_ids)
        agree(state, session, executor, hello, now)

    monkeypatch.setattr(connecting, "_agree", look)
    for seed in range(200):
        Simulation(seed).run()
        if seen:
            return
    pytest.fail("never, in 200 seeds")


def test_the_simulations_do_what_they_are_for() -> None:
    """They restart the manager, repeat executions, and finish many tasks."""
    runs = [Simulation(seed).run() for seed in range(20)]
    assert sum(run.restarts for run in runs) >= 5
    assert sum(run.tasks for run in runs) >= 500
    assert sum(run.executions for run in runs) >= 500


@pytest.mark.parametrize("bug", planted.ALL, ids=lambda bug: bug.__name__)
def test_the_checker_catches_a_planted_bug(
    bug: type[Engine], capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(40):
        try:
            Simulation(seed, engine_of=planted.make(bug)).run()
        except AssertionError:
            assert f"replay: python -m flame.testing.simulation {seed}" in capsys.readouterr().out
            return
    pytest.fail(f"{bug.__name__} was not caught by 40 seeds")


@pytest.mark.parametrize("seed", range(5))
def test_the_same_holds_on_disk_and_the_history_is_the_same(seed: int, tmp_path: Path) -> None:
    """The SQLite engine is opened and recovered at every start of the manager."""
    on_disk = Simulation(seed, open_store=lambda: SqliteStore(tmp_path / "flame.db")).run()
    assert on_disk == Simulation(seed).run()
