"""The documents tell the truth, where a test can see it: links, commands, what runs in the background."""

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from flame.cli.flame import flame
from flame.cli.flmctl import flmctl
from flame.cli.flmexec import flmexec
from flame.cli.flmping import flmping
from flame.executor_manager.main import main as executor_manager
from flame.session_manager.main import main as session_manager

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "examples/**/*.md", "benchmarks/**/*.md")
    for path in ROOT.glob(pattern)
)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).strip().replace(" ", "-") for text in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    for link in LINK.findall(document.read_text()):
        if re.match(r"[a-z]+:", link):
            continue  # elsewhere
        path, _, anchor = link.partition("#")
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def background_names() -> Iterator[tuple[str, str]]:
    """Yield the name of every asyncio task and thread that our processes start, and where."""
    for path in sorted((ROOT / "src/flame").rglob("*.py")):
        if path.parts[-2] in ("pb", "cli") or "testing" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            named = [k.value for k in node.keywords if k.arg in ("name", "thread_name_prefix")]
            if called == "start" and len(node.args) == 2:
                named = [node.args[1]]
            elif called not in ("create_task", "Thread", "ThreadPoolExecutor"):
                continue
            for value in named:
                if isinstance(value, ast.JoinedStr):
                    value = value.values[0]
                if isinstance(value, ast.Constant) and isinstance(value.value, str):
                    yield value.value.strip(), f"{path.relative_to(ROOT)}:{node.lineno}"


def test_the_table_of_background_tasks_has_them_all() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    table = " ".join(re.findall(r"`([^`]+)`", text[text.index("## Background tasks") :]))
    found = list(background_names())
    assert len(found) > 20
    missing = [(name, where) for name, where in found if name not in table]
    assert not missing


COMMANDS: dict[str, click.Command] = {
    "flame": flame,
    "flmctl": flmctl,
    "flmexec": flmexec,
    "flmping": flmping,
    "flame-executor-manager": executor_manager,
    "flame-session-manager": session_manager,
}


def commands_of(document: Path) -> Iterator[list[str]]:
    """Yield what is to be typed, a program of ours and its arguments, where text says so."""
    text = re.sub(r"\\\n\s*", "", document.read_text())
    for line in re.findall(r"^\$ (.*)$", text, re.MULTILINE):
        words = shlex.split(line, comments=True)
        while words:
            ends = [index for index, word in enumerate(words) if word in ("|", ">", "&&")]
            one, words = words[: (ends or [len(words)])[0]], words[(ends or [len(words)])[0] + 1 :]
            if one and one[0] in COMMANDS:
                yield one


@pytest.mark.parametrize(
    "document",
    [document for document in DOCUMENTS if list(commands_of(document))],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_commands_have_the_options_that_documents_show(
    document: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(click.Path, "convert", lambda _self, value, *_: value)  # files need not be
    for program, *arguments in commands_of(document):
        command = COMMANDS[program]
        while isinstance(command, click.Group):
            name, *arguments = arguments
            assert name in command.commands, (program, name)
            command = command.commands[name]
        command.make_context(program, list(arguments))
