"""The documents tell the truth, where a test can see it: links, and what runs in the background."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

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
