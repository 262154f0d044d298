"""A program for the stdio shim with lines: echoes, and dies of ``poison``, each attempt in its own way."""

import base64
import json
import os
import signal
import sys

for line in sys.stdin:
    task = json.loads(line).get("task", {})
    data = base64.b64decode(task.get("input") or "")
    if data == b"poison":
        sys.stderr.write(f"last words of {os.getpid()}\n")
        sys.stderr.flush()
        if task["attempt"] == 2:
            os.kill(os.getpid(), signal.SIGSEGV)
        os._exit(7)
    print(json.dumps({"ok": base64.b64encode(data).decode()}), flush=True)
