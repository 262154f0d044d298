"""The message classes of the channels, under one roof."""

from flame.wire.pb.channel.common_pb2 import Failure, Heartbeat, Refusal
from flame.wire.pb.channel.executor_channel_pb2 import (
    Bind,
    BindResult,
    CancelTasks,
    ExecutorFrame,
    ExecutorHello,
    ExecutorOrder,
    Left,
    Results,
    ResultsStored,
    Started,
    TakeBack,
    TakenBack,
    Tasks,
    Unbind,
    Welcome,
    Window,
)
from flame.wire.pb.channel.node_channel_pb2 import (
    ExecutorExited,
    Leaving,
    NodeFrame,
    NodeOrder,
    Register,
    Registered,
    Renew,
    Renewed,
    RunningExecutor,
    StartExecutor,
    StopExecutor,
)
from flame.wire.pb.channel.task_channel_pb2 import (
    Accepted,
    Attach,
    Attached,
    AttachRefused,
    Cancel,
    CancelDone,
    ClientFrame,
    ClientHello,
    Detach,
    ManagerFrame,
    ManagerHello,
    OutcomeCredit,
    Outcomes,
    SessionClosed,
    Submit,
    SubmitCredit,
    SubmitRefused,
)

#: Full method names of the channels' one rpc each.
TASK_CHANNEL = "/flame.channel.v1.TaskChannel/Connect"
EXECUTOR_CHANNEL = "/flame.channel.v1.ExecutorChannel/Connect"
NODE_CHANNEL = "/flame.channel.v1.NodeChannel/Connect"

#: A frame holds at most this many tasks and (roughly) bytes; one larger task travels alone.
FRAME_TASKS = 2048
FRAME_BYTES = 1024 * 1024

#: What a task costs of submit or outcome credit, beside its payload.
TASK_COST = 64

__all__ = [
    "EXECUTOR_CHANNEL",
    "FRAME_BYTES",
    "FRAME_TASKS",
    "NODE_CHANNEL",
    "TASK_CHANNEL",
    "TASK_COST",
    "Accepted",
    "Attach",
    "AttachRefused",
    "Attached",
    "Bind",
    "BindResult",
    "Cancel",
    "CancelDone",
    "CancelTasks",
    "ClientFrame",
    "ClientHello",
    "Detach",
    "ExecutorExited",
    "ExecutorFrame",
    "ExecutorHello",
    "ExecutorOrder",
    "Failure",
    "Heartbeat",
    "Leaving",
    "Left",
    "ManagerFrame",
    "ManagerHello",
    "NodeFrame",
    "NodeOrder",
    "OutcomeCredit",
    "Outcomes",
    "Refusal",
    "Register",
    "Registered",
    "Renew",
    "Renewed",
    "Results",
    "ResultsStored",
    "RunningExecutor",
    "SessionClosed",
    "StartExecutor",
    "Started",
    "StopExecutor",
    "Submit",
    "SubmitCredit",
    "SubmitRefused",
    "TakeBack",
    "TakenBack",
    "Tasks",
    "Unbind",
    "Welcome",
    "Window",
]
