"""A service as a program of its own, written with nothing but grpc: what a released SDK does.

Its tasks' inputs are orders. ``python instance_program.py [how]``: ``never`` does not listen,
``die`` ends at once, ``large`` takes messages of any size.
"""

import os
import sys
import time
from concurrent import futures
from typing import Any

import grpc

from flame.wire import v1


class Instance:
    def __init__(self) -> None:
        self.prefix = b""

    def OnSessionEnter(self, request: v1.SessionContext, context: Any) -> v1.Result:
        if request.common_data == b"refuse":
            return v1.Result(return_code=5, message="not today")
        if request.common_data == b"die":
            os._exit(6)
        self.prefix = f"{request.application.name}/{request.session_id}:".encode()
        return v1.Result()

    def OnTaskInvoke(self, request: v1.TaskContext, context: Any) -> v1.TaskResult:
        word, _, rest = request.input[:200].decode().partition(" ")
        match word:
            case "none":
                return v1.TaskResult()
            case "fail":
                return v1.TaskResult(return_code=2, message=rest)
            case "raise":
                raise RuntimeError(rest)
            case "kill":
                os.kill(os.getpid(), 9)
            case "exit":
                sys.stderr.write("last words\n")
                sys.stderr.flush()
                os._exit(int(rest))
            case "environment":
                return v1.TaskResult(output=os.environ.get(rest, "").encode())
            case "cwd":
                return v1.TaskResult(output=os.getcwd().encode())
            case "argv":
                return v1.TaskResult(output=" ".join(sys.argv[1:]).encode())
            case "pid":
                return v1.TaskResult(output=str(os.getpid()).encode())
        return v1.TaskResult(output=self.prefix + request.task_id.encode())

    def OnSessionLeave(self, request: v1.EmptyRequest, context: Any) -> v1.Result:
        return v1.Result()


def main() -> None:
    how = sys.argv[1] if len(sys.argv) > 1 else ""
    if how == "die":
        sys.exit("cannot start: the licence is missing")
    if how == "never":
        time.sleep(600)
    options = [("grpc.max_receive_message_length", -1)] if how == "large" else []
    server = grpc.server(futures.ThreadPoolExecutor(2), options=options)
    instance = Instance()
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            getattr(instance, name),
            request_deserializer=method.request.FromString,
            response_serializer=method.response.SerializeToString,
        )
        for name, method in v1.INSTANCE.items()
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("flame.v1.Instance", handlers),)
    )
    server.add_insecure_port("unix:" + os.environ["FLAME_INSTANCE_ENDPOINT"])
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
