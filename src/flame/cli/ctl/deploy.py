"""``flmctl deploy``: from a directory to a registered application."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

import flame
from flame.cli.application_files import SHIMS
from flame.cli.connection import Connection, connection_options
from flame.cli.deployment import Deployment, plan_deployment
from flame.cli.documents.applications import specification_document
from flame.cli.documents.values import state_name
from flame.cli.outcomes import Command
from flame.cli.progress import StderrBar
from flame.cli.tables import document
from flame.model.errors import AlreadyExists
from flame.model.packages import INSTALLERS
from flame.sdk.packing import check_archive, is_archive

EXAMPLES = """
\b
Examples:
  flmctl deploy examples/packages/words             a Python project
  flmctl deploy . --name pi --entry-point pi:Service
  flmctl deploy dist/pi-1.0-py3-none-any.whl --entry-point pi:Service
  flmctl deploy build --shim stdio --command words --env LANG=C
  flmctl deploy . --dry-run                         what would be packed, and registered

\b
A directory may say all this in an application.yaml, in the form of `flmctl register`. What is neither
there nor among the options is found: the name and the entry point in pyproject.toml, as in
  [project.entry-points."flame.service"]
  default = "pi:Service"
"""

SUMMARY = "summary"
SHOWN = 20  # files in a summary, the largest


def _pairs(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    pairs = []
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not NAME=VALUE")
        pairs.append((name, value))
    return tuple(pairs)


@click.command(cls=Command, epilog=EXAMPLES)
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option(
    "--application",
    "application_path",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="The same as PATH: a directory, an archive (.tar.gz, .zip, .whl) or a file.",
)
@click.option("--name", help="The application's name; default: the project's or directory's.")
@click.option(
    "--dry-run", is_flag=True, help="Show what would be packed and registered; do nothing."
)
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice([SUMMARY, "yaml", "json"]),
    default=SUMMARY,
    show_default=True,
)
@click.option("--exclude", multiple=True, metavar="PATTERN", help="Leave files out, like '*.csv'.")
@click.option(
    "--installer",
    type=click.Choice(INSTALLERS),
    help="python: an environment with the package; binary: just unpacked. Default: as it looks.",
)
@click.option("--shim", type=click.Choice(sorted(SHIMS), case_sensitive=False))
@click.option("--entry-point", metavar="MODULE:NAME", help="Of a Python service.")
@click.option("--command", metavar="PROGRAM", help="A program in the package or on the nodes.")
@click.option("--argument", "arguments", multiple=True, help="For the program; repeat it for more.")
@click.option("--env", "environments", multiple=True, callback=_pairs, metavar="NAME=VALUE")
@click.option("--shim-option", "shim_options", multiple=True, callback=_pairs, metavar="NAME=VALUE")
@click.option("--working-directory", metavar="PATH", help="On the node; absolute.")
@click.option("--description")
@click.option("--label", "labels", multiple=True, help="For people; repeat it for more.")
@click.option("--image")
@click.option("--max-instances", type=click.IntRange(min=1), help="Executors of a session.")
@click.option("--delay-release", type=click.IntRange(min=0), help="Seconds to stay warm.")
@click.option("--standby", type=click.IntRange(min=0), help="And longer, if nobody needs the room.")
@click.option("--schema-input", help="What a task's input is.")
@click.option("--schema-output", help="What a task's output is.")
@click.option("--schema-common-data", help="What a session's common data is.")
@connection_options
def deploy(
    connection: Connection,
    *,
    path: Path | None,
    application_path: Path | None,
    name: str | None,
    dry_run: bool,
    form: str,
    exclude: tuple[str, ...],
    shim: str | None,
    **given: Any,
) -> None:
    """Bring a project to the cluster as an application.

    PATH is packed and uploaded, and the application that it is registered, or updated.
    """
    chosen = path or application_path
    if chosen is None or (path is not None and application_path is not None):
        raise click.UsageError("say what to deploy, once: flmctl deploy PATH")
    given["shim"] = None if shim is None else SHIMS[shim.lower()]
    given["has_schema"] = (
        any(given[f"schema_{each}"] for each in ("input", "output", "common_data")) or None
    )
    planned = plan_deployment(chosen, name, given, exclude)
    if dry_run:
        if planned.files is None:
            check_archive(chosen)
        click.echo(_shown(planned, form, {"dry_run": True}))
        return
    with connection.open() as client:
        with StderrBar(None) as bar:
            package = client.upload_package(chosen, exclude=exclude, progress=bar.stand_at)
        planned = replace(planned, spec=replace(planned.spec, url=package.url))
        action = _put(client, planned)
    said = {
        "action": action,
        "package": {
            "url": package.url,
            "sha256": package.sha256,
            "size": package.size,
            "uploaded": package.uploaded,
        },
    }
    click.echo(_shown(planned, form, said))


def _put(client: flame.Client, planned: Deployment) -> str:
    try:
        client.register_application(planned.name, planned.spec)
    except AlreadyExists:
        client.update_application(planned.name, planned.spec)
        return "updated"
    return "registered"


def _shown(planned: Deployment, form: str, said: dict[str, Any]) -> str:
    if form != SUMMARY:
        files = planned.files
        return document(
            {
                "metadata": {"name": planned.name},
                "spec": specification_document(planned.spec),
                **said,
                "files": None
                if files is None
                else [{"path": file.path, "size": file.size} for file in files.files],
                "excluded": None if files is None else files.excluded,
            },
            form,
        )
    lines = _packed_lines(planned) if said.get("dry_run") else [_package_line(said["package"])]
    spec = planned.spec
    starts = spec.entry_point or " ".join(filter(None, [spec.command, *spec.arguments]))
    what = f"{state_name(spec.shim)}: {starts}" if starts else "Shell"
    does = "would be registered or updated" if said.get("dry_run") else f"is {said.get('action')}"
    lines.append(f"Application {planned.name} {does} ({what}; installer {spec.installer}).")
    return "\n".join(lines)


def _package_line(package: dict[str, Any]) -> str:
    how = "is uploaded" if package["uploaded"] else "is there already"
    return f"Package {package['sha256'][:16]} ({_amount(package['size'])}) {how}."


def _amount(size: int) -> str:
    return f"{size:,} bytes" if size < 2**20 else f"{size / 2**20:.1f} MiB"


def _packed_lines(planned: Deployment) -> list[str]:
    files = planned.files
    if files is None:
        size = planned.path.stat().st_size if is_archive(planned.path) else 0
        return [f"{planned.path} ({_amount(size)}) would be uploaded as it is."]
    largest = sorted(files.files, key=lambda file: (-file.size, file.path))
    lines = [f"{file.size:>12,}  {file.path}" for file in largest[:SHOWN]]
    if len(largest) > SHOWN:
        rest = sum(file.size for file in largest[SHOWN:])
        lines.append(f"{rest:>12,}  ({len(largest) - SHOWN} more)")
    total = f"{len(largest)} files, {_amount(files.total_bytes)}, would be packed"
    lines.append(f"{total}; left out: {', '.join(files.excluded) or 'nothing'}.")
    return lines
