"""Grpc: a program of version 0.2.0. It listens, then tells its executor where.

The messages are generated from ``proto/flame/v0/shim.proto``; these are the ones that Flame comes with.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import grpc

from flame.wire import v0


class Words:
    def OnSessionEnter(self, request, context):
        return v0.Result()

    def OnTaskInvoke(self, request, context):
        return v0.TaskOutput(data=b"%d" % len(request.input.split()))

    def OnSessionLeave(self, request, context):
        return v0.Result()


def main():
    server = grpc.server(ThreadPoolExecutor(1))
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            getattr(Words(), name),
            request_deserializer=method.request.FromString,
            response_serializer=method.response.SerializeToString,
        )
        for name, method in v0.GRPC_SHIM.items()
    }
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("flame.GrpcShim", handlers),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    manager = os.environ["FLAME_SERVICE_MANAGER"].removeprefix("http://")
    with grpc.insecure_channel(manager) as channel:
        v0.GRPC_SERVICE_MANAGER["RegisterService"].on(channel)(
            v0.RegisterServiceRequest(
                address=f"http://127.0.0.1:{port}", service_id=str(os.getpid())
            )
        )
    server.wait_for_termination()


if __name__ == "__main__":
    main()
