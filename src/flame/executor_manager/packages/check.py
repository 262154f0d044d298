"""The process that looks whether an application would start, with the interpreter that is to run it.

``python -m flame.executor_manager.packages.check JOB``: imports a service's module, or looks for the
program, so that a package that cannot work costs no executor and says why.
"""

import os
import shutil
import sys
import traceback

from flame.executor_manager.packages import BadPackage, jobs
from flame.executor_manager.packages.jobs import CheckJob
from flame.executor_manager.shims.program import expand

MOST_SAID = 4096  # characters of a traceback


def check(job: CheckJob) -> None:
    """Try what an executor is going to do first.

    Raises:
        BadPackage: It would fail.
    """
    if job.entry_point:
        _import(job.entry_point)
    elif job.command:
        path = os.environ.get("PATH", os.defpath)
        command = expand(job.command, os.environ)
        if shutil.which(command, path=path) is None:
            raise BadPackage(
                f"command {command!r} is not an executable file in the package or on this "
                f"node (PATH is {path})"
            )


def _import(entry_point: str) -> None:
    try:
        import flame.executor_manager.executor  # noqa: F401 - with what the package brought along
    except Exception as error:
        raise BadPackage(
            f"what the package installs breaks Flame itself: {type(error).__name__}: {error}"
        ) from error
    from flame.executor_manager.shims import ServiceUnusable
    from flame.executor_manager.shims.python import import_entry_point

    sys.path.insert(0, os.getcwd())
    try:
        import_entry_point(entry_point)
    except ServiceUnusable as error:
        raise BadPackage(str(error)) from error
    except BaseException as error:  # whatever the user's module raises, SystemExit too
        said = traceback.format_exc()[-MOST_SAID:]
        raise BadPackage(
            f"entry_point {entry_point!r} cannot be imported: {type(error).__name__}: {error}\n"
            f"{said}"
        ) from error


def main() -> None:
    """Do the job named on the command line; the exit code says whether all is well."""
    path = sys.argv[1]
    job = jobs.read_job(path, CheckJob)
    assert isinstance(job, CheckJob)  # noqa: S101 - for the type checker
    try:
        check(job)
    except BadPackage as error:
        print(error, flush=True)  # noqa: T201 - this is the log
        jobs.fail(path, error)
        os._exit(1)  # threads that an import started are no reason to stay
    jobs.succeed(path)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
