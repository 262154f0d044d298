"""The program of a Python that stays (``warm_python``): it forks for each script that it is told to run.

The parent reads requests from what was its stdin and answers exit codes there. The child leaves the loop, runs
the script as ``__main__``, and ends as every interpreter does: threads are waited for, streams flushed.
"""

import atexit
import gc
import json
import os
import sys
import threading
from typing import NoReturn

NAME = "<flmexec>"


def wait_for_script() -> tuple[str, list[str], str, dict[str, str]]:
    """Answer requests for ever; returns in each child, with what to run."""
    control = os.fdopen(os.dup(0), "r+b", 0)
    requests = os.fdopen(os.dup(0), "rb")
    devnull = os.open(os.devnull, os.O_RDONLY)
    os.dup2(devnull, 0)
    os.close(devnull)
    gc.collect()
    gc.freeze()  # a collection would write to pages that are shared
    for line in requests:
        pid = os.fork()
        if pid == 0:
            control.close()
            requests.close()
            script, arguments, stdin, variables = json.loads(line)
            return script, arguments, stdin, variables
        _, status = os.waitpid(pid, 0)
        control.write(b"%d\n" % os.waitstatus_to_exitcode(status))
    sys.exit()


def run(script: str, arguments: list[str], stdin: str, variables: dict[str, str]) -> int:
    """Run a script in this process, which is its own; returns its exit code."""
    file = os.open(stdin, os.O_RDONLY)
    os.dup2(file, 0)
    os.close(file)
    os.environ.update(variables)
    sys.argv[:] = ["-c", *arguments]
    main = sys.modules["__main__"] = type(sys)("__main__")
    try:
        exec(compile(script, NAME, "exec"), main.__dict__)  # noqa: S102 - it is what we are for
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)  # noqa: T201 - as an interpreter does
        return 1
    except BaseException:
        import linecache
        import traceback

        kind, error_, trace = sys.exc_info()
        linecache.cache[NAME] = (len(script), None, script.splitlines(True), NAME)
        traceback.print_exception(kind, error_, trace and trace.tb_next)  # ours says nothing
        return 1
    return 0


def end(code: int) -> NoReturn:
    """End as an interpreter does, but for taking apart what the kernel frees in one go."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = code or 120  # what Python answers when it cannot flush
    finally:
        os._exit(code)


if __name__ == "__main__":
    request = wait_for_script()
    code = 1
    try:
        code = run(*request)
    finally:
        end(code)
