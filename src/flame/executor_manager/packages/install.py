"""The process that makes a release: ``python -m flame.executor_manager.packages.install JOB``.

    <release>/src   what the archive holds
    <release>/env   for the installer ``python``: an environment with it and what it needs

It runs code of the package (a build may), so it is started below the guardian, knows no credential,
and is killed with all it started when its time is over. What it prints is the preparation's log.
"""

import os
import sys
from pathlib import Path

from flame.executor_manager.packages import BadPackage, jobs
from flame.executor_manager.packages.jobs import InstallJob
from flame.executor_manager.packages.python_environment import install_python
from flame.executor_manager.packages.unpack import unpack
from flame.model.packages import PYTHON


def install(job: InstallJob) -> None:
    """Unpack, then install.

    Raises:
        BadPackage: It cannot be used.
    """
    release, archive = Path(job.release), Path(job.archive)
    print(f"unpacking {archive.name}", flush=True)  # noqa: T201 - this is the log
    draft, source = release / "src.part", release / "src"
    unpack(archive, draft, max_bytes=job.max_bytes, max_entries=job.max_entries)
    os.rename(draft, source)
    if job.installer == PYTHON:
        wheel = archive if archive.suffix == ".whl" else None
        install_python(source, wheel, release / "env", Path(job.cache))


def main() -> None:
    """Do the job named on the command line; the exit code says whether it is done."""
    path = sys.argv[1]
    job = jobs.read_job(path, InstallJob)
    assert isinstance(job, InstallJob)  # noqa: S101 - for the type checker
    try:
        install(job)
        jobs.succeed(path)
    except BadPackage as error:
        print(error, flush=True)  # noqa: T201
        jobs.fail(path, error)
        sys.exit(1)
    except OSError as error:
        jobs.fail(path, BadPackage(f"the package cannot be unpacked on this node: {error}"))
        sys.exit(1)


if __name__ == "__main__":
    main()
