"""Flame's errors, as one tree split by what the caller should do.

    FlameError
    ├── InvalidRequest        it can never succeed as written: fix the call
    │   └── InvalidConfiguration   file, key and allowed values are named
    ├── NotFound              no such application, session, task, node
    ├── AlreadyExists         the name is taken
    ├── WrongState            e.g. the session is closed: read it again, then decide
    ├── Unauthenticated       no credential, or one that is not known
    ├── PermissionDenied      a credential that does not allow this
    ├── ResourceExhausted     a quota, a queue or a disk is full: back off
    ├── Unavailable           nobody answered: the same request may be sent again
    │   └── NotLeading        this session manager stands by: ask the one that leads
    ├── TaskError             a task did not succeed
    │   ├── TaskFailed        the user's code raised; carries its traceback
    │   │   └── TaskTimedOut  it ran, or took, longer than its session allows
    │   ├── TaskCancelled     it was cancelled before it finished
    │   └── TaskLost          its executors died until its attempts were spent
    └── IllegalTransition     a bug in Flame: please report it

Attributes carry ids and values; the text says what was seen, what was allowed, what to do.
"""


class FlameError(Exception):
    """Any error that Flame raises on purpose."""


class InvalidRequest(FlameError, ValueError):
    """The request can never succeed as written."""


class InvalidConfiguration(InvalidRequest):
    """A configuration file, variable or option has a value that is not allowed."""


class NotFound(FlameError, LookupError):
    """Nothing has this name or id."""


class AlreadyExists(FlameError):
    """The name is taken."""


class WrongState(FlameError):
    """The thing exists but is not in a state that allows this."""


class Unauthenticated(FlameError):
    """The call carries no credential, or one that nobody knows."""


class PermissionDenied(FlameError):
    """The credential does not allow this call."""


class ResourceExhausted(FlameError):
    """A limit is reached; try again later."""


class Unavailable(FlameError, ConnectionError):
    """The other side cannot be reached now; the same request may be repeated."""


class NotLeading(Unavailable):
    """The session manager stands by for another one, which the text names if it is known."""


class TaskError(FlameError):
    """A task is final and did not succeed.

    Attributes:
        session: The session's name.
        task: The task's id.
        code: The code of the event that explains it (3: the service failed the task).
    """

    def __init__(self, message: str, *, session: str = "", task: int = 0, code: int = 0) -> None:
        super().__init__(message)
        self.session = session
        self.task = task
        self.code = code

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), str(self), self.session, self.task, self.code))


class TaskFailed(TaskError):
    """The service raised, or answered a failure; the text holds what it said."""


class TaskTimedOut(TaskFailed):
    """The task ran for longer, or was final later, than its session allows."""


class TaskCancelled(TaskError):
    """The task was cancelled before it finished."""


class TaskLost(TaskError):
    """The executors that ran the task died until its attempts were spent."""


class IllegalTransition(FlameError):
    """No rule covers this event in this state: a bug in Flame."""


def _rebuild(kind: type[TaskError], message: str, session: str, task: int, code: int) -> TaskError:
    return kind(message, session=session, task=task, code=code)
