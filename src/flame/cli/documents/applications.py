"""Applications, and how far their packages are, as rows, properties and documents."""

import base64

from flame.cli.documents.values import Document, clock_time, date_time, present, state_name
from flame.model.specs import ApplicationSpec
from flame.model.volumes import Volume
from flame.sdk.views import Application, NodePackage

APPLICATIONS = {"Name": 15, "State": 10, "Shim": 10, "Tags": 15, "Created": 12, "Command": 20}
READY = "ready"  # a package's state
LOG_LINES = 15  # of a package's log that are shown


def application_row(application: Application) -> list[object]:
    """A row of :data:`APPLICATIONS`."""
    spec = application.spec
    return [
        application.name,
        state_name(application.state),
        state_name(spec.shim),
        ",".join(spec.labels),
        clock_time(application.created_ms),
        _command(spec),
    ]


def application_properties(application: Application) -> list[tuple[str, object]]:
    """What ``flmctl view -a`` prints."""
    spec = application.spec
    return [
        ("Name", application.name),
        ("State", state_name(application.state)),
        ("Created", date_time(application.created_ms)),
        ("Description", spec.description),
        ("Shim", state_name(spec.shim)),
        ("Labels", ", ".join(spec.labels)),
        ("Image", spec.image),
        ("Command", _command(spec)),
        ("Entry point", spec.entry_point),
        ("Environment", "\n".join(f"{name}={value}" for name, value in spec.environments)),
        ("Directory", spec.working_directory),
        ("Max instances", spec.max_instances),
        ("Delay release", None if spec.delay_release is None else f"{spec.delay_release} s"),
        ("Standby", None if spec.standby is None else f"{spec.standby} s"),
        ("Reusable", "yes" if spec.reusable else "no"),
        ("Sandbox", spec.sandbox.value),
        ("Preload", "yes" if spec.preload else "no"),
        ("Volumes", "\n".join(f"{v.name}: {v.path} ({_mode(v)})" for v in spec.volumes)),
        ("Package", spec.url),
        ("Installer", spec.installer),
        ("Nodes", "\n".join(map(_package_line, application.packages))),
        ("Input", spec.schema_input),
        ("Output", spec.schema_output),
        ("Common data", spec.schema_common_data),
    ]


def application_document(application: Application) -> Document:
    """The whole application, in the form that ``flmctl register`` reads."""
    return {
        "metadata": {"name": application.name},
        "spec": specification_document(application.spec),
        "status": present(
            state=state_name(application.state),
            created=date_time(application.created_ms),
            packages=[_package_document(package) for package in application.packages] or None,
        ),
    }


def specification_document(spec: ApplicationSpec) -> Document:
    """The ``spec`` of an application's file."""
    schema = present(
        input=spec.schema_input, output=spec.schema_output, common_data=spec.schema_common_data
    )
    return present(
        shim=state_name(spec.shim),
        description=spec.description,
        labels=list(spec.labels) or None,
        image=spec.image,
        command=spec.command,
        arguments=list(spec.arguments) or None,
        entry_point=spec.entry_point or None,
        shim_options=dict(spec.shim_options) or None,
        environments=dict(spec.environments) or None,
        working_directory=spec.working_directory,
        max_instances=spec.max_instances,
        delay_release=spec.delay_release,
        standby=spec.standby,
        reusable=spec.reusable or None,
        preload=spec.preload or None,
        sandbox=spec.sandbox.value or None,
        volumes=[{"name": v.name, "path": v.path, "mode": _mode(v)} for v in spec.volumes] or None,
        schema=schema or None,
        url=spec.url,
        installer=spec.installer,
        pickled_service=_base64(spec.pickled_service),
        pickled_with=spec.pickled_with or None,
        local_modules=_base64(spec.local_modules),
    )


def _package_line(package: NodePackage) -> str:
    """A node's package; where it failed, or is at work, with the end of its log."""
    text = f"{package.node}  {package.state} since {date_time(package.since_ms)}"
    if package.state == READY:
        return text
    said = "\n".join(f"  {line}" for line in package.log.strip().splitlines()[-LOG_LINES:])
    return "\n".join(filter(None, [f"{text}: {package.message}", said]))


def _package_document(package: NodePackage) -> Document:
    return {
        "node": package.node,
        "url": package.url,
        "state": package.state,
        "since": date_time(package.since_ms),
        "message": package.message,
        "log": package.log,
    }


def _mode(volume: Volume) -> str:
    return "rw" if volume.writable else "ro"


def _command(spec: ApplicationSpec) -> str | None:
    if spec.command:
        return " ".join((spec.command, *spec.arguments))
    if spec.pickled_service:
        return f"(pickled, {len(spec.pickled_service):,} bytes)"
    return spec.entry_point or None


def _base64(data: bytes) -> str | None:
    return base64.b64encode(data).decode("ascii") if data else None
