"""A service that does what its tasks say, spoken to in every way that there is a shim for.

    !fail why      the task fails              !wait      the task takes for ever
    !big 1000      so many bytes come back     !die       the service's process ends
    !told          what was said of the task   else       the input comes back

Common data ``!refuse why`` refuses the session; leaving touches the file LEFT. Run as a program, its
first argument says how it is spoken to, and ``slow`` after that lets it never be ready.
"""

import base64
import json
import os
import socketserver
import sys
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import unquote


class Failed(Exception):
    """What the caller shall be told."""


def do(data: bytes | None, told: dict[str, Any]) -> bytes | None:
    word, _, rest = (data or b"")[:200].partition(b" ")
    match word:
        case b"!fail":
            raise Failed(rest.decode())
        case b"!told":
            return json.dumps(told).encode()
        case b"!big":
            return bytes(int(rest))
        case b"!die":
            os._exit(7)
        case b"!wait":
            time.sleep(600)
    return data


def enter(common_data: bytes | None) -> None:
    if common_data is not None and common_data.startswith(b"!refuse "):
        raise Failed(common_data[8:].decode())


def leave() -> None:
    if "LEFT" in os.environ:
        Path(os.environ["LEFT"]).touch()


# --- stdio


def serve_length() -> None:
    stdin, stdout = sys.stdin.buffer, sys.stdout.buffer
    while line := stdin.readline():
        verb, *words, length = line.split()
        told = json.loads(words[1]) if words[1:] else {}
        data = None if length == b"-" else stdin.read(int(length))
        try:
            answer, word = answer_to(verb, data, told), b"OK"
        except Failed as error:
            answer, word = str(error).encode(), b"FAIL"
        size = b"-" if answer is None else b"%d" % len(answer)
        stdout.write(word + b" " + size + b"\n" + (answer or b""))
        stdout.flush()


def serve_lines() -> None:
    for line in sys.stdin:
        [(verb, fields)] = json.loads(line).items()
        text = fields.get("common_data", fields.get("input"))
        data = None if text is None else base64.b64decode(text)
        try:
            output = answer_to(verb.upper().encode(), data, only_told(fields))
            answer: dict[str, Any] = {
                "ok": None if output is None else base64.b64encode(output).decode()
            }
        except Failed as error:
            answer = {"failed": str(error)}
        print(json.dumps(answer), flush=True)


def answer_to(verb: bytes, data: bytes | None, told: dict[str, Any]) -> bytes | None:
    match verb:
        case b"ENTER":
            enter(data)
        case b"LEAVE":
            leave()
        case _:
            return do(data, told)
    return None


def only_told(fields: dict[str, Any]) -> dict[str, Any]:
    names = ("labels", "input_path", "output_path")
    return {name: fields[name] for name in names if fields.get(name)}


def told_by(variables: Mapping[str, str]) -> dict[str, Any]:
    """What processes of single tasks, and modules, find in their environment."""
    return only_told(
        {
            "labels": json.loads(variables.get("FLAME_TASK_LABELS", "{}")),
            "input_path": variables.get("FLAME_INPUT_PATH"),
            "output_path": variables.get("FLAME_OUTPUT_PATH"),
        }
    )


def serve_once() -> None:
    try:
        output = do(sys.stdin.buffer.read(), told_by(os.environ))
    except Failed as error:
        sys.exit(str(error))
    sys.stdout.buffer.write(output or b"")


# --- http


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def address_string(self) -> str:
        return "local"

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        self.answer(200 if self.path == "/health" else 404, b"")

    def do_POST(self) -> None:
        body: bytes | None = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Flame-Body") == "none":
            body = None
        verb = {"/session/enter": b"ENTER", "/session/leave": b"LEAVE"}.get(self.path, b"TASK")
        try:
            output = answer_to(verb, body, self.told())
        except Failed as error:
            self.answer(500, str(error).encode())
        else:
            self.answer(204 if output is None else 200, output or b"")

    def told(self) -> dict[str, Any]:
        headers = self.headers
        return only_told(
            {
                "labels": json.loads(headers.get("Flame-Labels", "{}")),
                "input_path": unquote(headers.get("Flame-Input-Path", "")),
                "output_path": unquote(headers.get("Flame-Output-Path", "")),
            }
        )

    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def serve_http() -> None:
    if "FLAME_HTTP_SOCKET" in os.environ:
        server: Any = socketserver.ThreadingUnixStreamServer(
            os.environ["FLAME_HTTP_SOCKET"], Handler
        )
    else:
        address = ("127.0.0.1", int(os.environ["FLAME_HTTP_PORT"]))
        server = socketserver.ThreadingTCPServer(address, Handler)
    server.daemon_threads = True
    server.serve_forever()


# --- gRPC, version 1 and 0.2.0


def told_on(request: Any) -> dict[str, Any]:
    return only_told(
        {
            "labels": {label.name: label.value for label in request.labels},
            "input_path": request.input_path,
            "output_path": request.output_path,
        }
    )


def serve_instance() -> None:
    from flame.wire import v1

    def result(function: Any, data: bytes | None) -> Any:
        try:
            function(data)
        except Failed as error:
            return v1.Result(return_code=1, message=str(error))
        return v1.Result()

    def invoke(request: Any, context: Any) -> Any:
        try:
            data = request.input if request.HasField("input") else None
            return v1.TaskResult(output=do(data, told_on(request)))
        except Failed as error:
            return v1.TaskResult(return_code=1, message=str(error))

    serve_grpc(
        v1.INSTANCE,
        OnSessionEnter=lambda request, _: result(enter, request.common_data),
        OnTaskInvoke=invoke,
        OnSessionLeave=lambda request, _: result(lambda _: leave(), None),
        address="unix:" + os.environ["FLAME_INSTANCE_ENDPOINT"],
    )


def serve_0_2_0() -> None:
    import grpc

    from flame.wire import v0

    def result(function: Any, data: bytes | None) -> Any:
        try:
            function(data)
        except Failed as error:
            return v0.Result(return_code=1, message=str(error))
        return v0.Result()

    def invoke(request: Any, context: Any) -> Any:
        try:
            data = request.input if request.HasField("input") else None
            return v0.TaskOutput(data=do(data, told_on(request)))
        except Failed as error:
            context.abort(grpc.StatusCode.INTERNAL, str(error))

    def register(port: int) -> None:
        manager = os.environ["FLAME_SERVICE_MANAGER"].removeprefix("http://")
        with grpc.insecure_channel(manager) as channel:
            method: Any = v0.GRPC_SERVICE_MANAGER["RegisterService"]
            answer = method.on(channel)(
                v0.RegisterServiceRequest(
                    address=f"http://127.0.0.1:{port}", service_id=str(os.getpid())
                )
            )
        assert answer.return_code == 0, answer.message

    serve_grpc(
        v0.GRPC_SHIM,
        OnSessionEnter=lambda request, _: result(enter, request.common_data),
        OnTaskInvoke=invoke,
        OnSessionLeave=lambda request, _: result(lambda _: leave(), None),
        address="127.0.0.1:0",
        ready=register,
    )


def serve_grpc(
    methods: Any, address: str, ready: Any = lambda port: None, **functions: Any
) -> None:
    from concurrent import futures

    import grpc

    server = grpc.server(
        futures.ThreadPoolExecutor(2), options=[("grpc.max_send_message_length", -1)]
    )
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            function,
            request_deserializer=methods[name].request.FromString,
            response_serializer=methods[name].response.SerializeToString,
        )
        for name, function in functions.items()
    }
    service = methods["OnTaskInvoke"].path.split("/")[1]
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    port = server.add_insecure_port(address)
    server.start()
    ready(port)
    server.wait_for_termination()


SERVERS = {
    "length": serve_length,
    "lines": serve_lines,
    "none": serve_once,
    "http": serve_http,
    "host": serve_instance,
    "grpc": serve_0_2_0,
}

if __name__ == "__main__":
    if sys.argv[2:] == ["slow"]:
        time.sleep(600)
    SERVERS[sys.argv[1]]()
