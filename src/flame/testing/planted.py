"""Bugs planted on purpose, to test the checker: each must be caught within a few seeds."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from flame.core.cluster import Cluster, Committed
from flame.core.effects import Accepted, Effect, NotifyTask, SendOutcomes, SendResultsStored, Store
from flame.core.events import TasksFinished
from flame.core.records import LeaseLost, OutcomesRecorded, Record, TasksSubmitted
from flame.engine.engine import Engine, Group
from flame.testing.manager import EngineOf

CommitVolatile = Callable[[Sequence[Record]], None]


class DropsARecord(Engine):
    """Now and then forgets to store the outcomes of a group, and says that it did."""

    groups = 0

    def take_group(self) -> Group | None:
        group = super().take_group()
        if group is None:
            return None
        self.groups += 1
        if self.groups % 5:
            return group
        return Group([r for r in group.records if type(r) is not OutcomesRecorded], group.sync)


class CompletesTwice(Engine):
    """Stores the first outcome of some groups a second time."""

    def take_group(self) -> Group | None:
        group = super().take_group()
        if group is None:
            return None
        records = list(group.records)
        for record in records:
            if isinstance(record, OutcomesRecorded):
                end = record.first_position + len(record.task_ids)
                again = OutcomesRecorded(
                    record.session,
                    end,
                    record.task_ids[:1],
                    record.outputs[:1],
                    {i: f for i, f in record.failures.items() if i == 0},
                    record.finished_ms,
                )
                return Group([*records, again], group.sync)
        return group


class AcknowledgesEarly(Engine):
    """Hands out and acknowledges what is not stored yet."""

    def _route(self, effects: list[Effect], now: float) -> list[Effect]:
        out = super()._route(effects, now)
        for store in list(self._waiting):
            if isinstance(store.record, TasksSubmitted) and store.cause is not None:
                cause, store.cause = store.cause, None
                early = Store(store.record, cause)
                answered = self.cluster.handle(Committed((early,)), now)
                out.extend(super()._route(answered, now))
        return out


class LosesAWakeUp(Engine):
    """Never performs some of the effects that somebody waits for.

    ``kind`` of every ``nth`` is lost.
    """

    kind: type = SendOutcomes
    nth = 7
    seen = 0

    def _route(self, effects: list[Effect], now: float) -> list[Effect]:
        kept: list[Effect] = []
        for effect in super()._route(effects, now):
            if type(effect) is self.kind:
                self.seen += 1
                if self.seen % self.nth == 0:
                    continue
            kept.append(effect)
        return kept


class LosesANotification(LosesAWakeUp):
    """Watchers of a task hear nothing, sometimes."""

    kind = NotifyTask
    nth = 2


class LosesAnAcceptance(LosesAWakeUp):
    """A submit is stored, and its client never told."""

    kind = Accepted
    nth = 5


class TellsAnothersData(Engine):
    """Answers with the output of another task."""

    def _route(self, effects: list[Effect], now: float) -> list[Effect]:
        out = super()._route(effects, now)
        for effect in out:
            if isinstance(effect, SendOutcomes) and len(effect.outputs) > 1:
                effect.outputs = [*effect.outputs[1:], effect.outputs[0]]
        return out


class ForgetsLostLeases(Engine):
    """Gives tasks to others without a record that a lease was lost."""

    def take_group(self) -> Group | None:
        group = super().take_group()
        if group is None:
            return None
        return Group([r for r in group.records if type(r) is not LeaseLost], group.sync)


class ConfirmsEarly(Engine):
    """Lets executors forget results that are not stored."""

    def _route(self, effects: list[Effect], now: float) -> list[Effect]:
        early: list[Effect] = []
        for effect in effects:
            if isinstance(effect, Store) and isinstance(effect.record, OutcomesRecorded):
                executor = getattr(effect.cause, "executor", None)
                if executor is not None:
                    sequence = getattr(effect.cause, "sequence", 0)
                    early.append(SendResultsStored(executor, sequence))
        return [*early, *super()._route(effects, now)]


class ForgetsLimits(Engine):
    """Stores tasks without the limits that they have of their own."""

    def take_group(self) -> Group | None:
        group = super().take_group()
        if group is None:
            return None
        records = [
            replace(r, limits=None) if type(r) is TasksSubmitted else r for r in group.records
        ]
        return Group(records, group.sync)


class ForgetsWhatWasRaised(Engine):
    """Does not look at what a service raised: nothing that ``retry_on`` names is tried again."""

    def handle(self, event: object, now: float) -> list[Effect]:
        if isinstance(event, TasksFinished):
            event.kinds.clear()
        return super().handle(event, now)


def make(kind: type[Engine]) -> EngineOf:
    """Return a factory of engines with the bug."""

    def engine(cluster: Cluster, commit_volatile: CommitVolatile) -> Engine:
        return kind(cluster, commit_volatile)

    return engine


ALL: tuple[type[Engine], ...] = (
    DropsARecord,
    CompletesTwice,
    AcknowledgesEarly,
    LosesAWakeUp,
    LosesANotification,
    LosesAnAcceptance,
    TellsAnothersData,
    ForgetsLostLeases,
    ConfirmsEarly,
    ForgetsLimits,
    ForgetsWhatWasRaised,
)
