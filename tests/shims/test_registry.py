"""How an executor finds the shim of an application, and how a package adds one."""

import importlib.metadata
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from flame.executor_manager.shims import ServiceUnusable
from flame.executor_manager.shims.http import HttpShim
from flame.executor_manager.shims.options import Options
from flame.executor_manager.shims.registry import BUILT_IN, GROUP
from flame.model.specs import ApplicationSpec, ShimKind
from tests.shims.test_contract import ROOT, Running

PIGEON = """
class PigeonShim:
    def __init__(self, request):
        self.name = request.application_name
    def enter(self, session):
        pass
    def invoke(self, context):
        return b"coo " + context.input
    def leave(self):
        pass
    def close(self):
        pass
"""


def custom(kind: str) -> ApplicationSpec:
    return ApplicationSpec(shim=ShimKind.CUSTOM, shim_options=(("kind", kind),))


@pytest.fixture
def pigeons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is installed on this node."""
    (tmp_path / "pigeons.py").write_text(PIGEON)
    metadata = tmp_path / "pigeons-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Name: pigeons\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        f"[{GROUP}]\ncarrier-pigeon = pigeons:PigeonShim\nlost-pigeon = pigeons:Nowhere\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pigeons", raising=False)


def test_the_built_in_shims_are_registered_like_any_other() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"][GROUP] == {k.name.lower(): v for k, v in BUILT_IN.items()}
    assert {*BUILT_IN, ShimKind.UNSPECIFIED, ShimKind.CUSTOM} == set(ShimKind)


@pytest.mark.parametrize("target", BUILT_IN.values())
def test_what_is_registered_is_there(target: str) -> None:
    assert callable(importlib.metadata.EntryPoint("x", target, GROUP).load())


@pytest.mark.usefixtures("pigeons")
def test_a_package_adds_a_shim_with_a_class_and_a_line(tmp_path: Path) -> None:
    own = Running(tmp_path, custom("carrier-pigeon"))
    own.enter()
    assert own.task(b"home") == b"coo home"


@pytest.mark.usefixtures("pigeons")
def test_a_kind_that_is_not_known_is_told_with_those_that_are(tmp_path: Path) -> None:
    with pytest.raises(ServiceUnusable, match=r"kind 'owl'.*carrier-pigeon, grpc, host, http, log"):
        Running(tmp_path, custom("owl"))


@pytest.mark.usefixtures("pigeons")
def test_a_shim_that_cannot_be_loaded_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServiceUnusable, match=r"'lost-pigeon' is registered as 'pigeons:Nowhere'"):
        Running(tmp_path, custom("lost-pigeon"))


@pytest.mark.parametrize(
    ("value", "read", "told"),
    [
        ("soon", "seconds", "is 'soon'; it must be a number of seconds above 0"),
        ("-1", "seconds", "above 0"),
        ("nan", "seconds", "above 0"),
        ("1.5", "count", "a whole number above 0"),
        ("much", "size", "'much' is not a size like"),
    ],
)
def test_a_wrong_option_is_told_with_what_is_allowed(value: str, read: str, told: str) -> None:
    options = Options((("x", value),))
    arguments = ("x", 1) if read == "size" else ("x",)
    with pytest.raises(ServiceUnusable, match=rf"^shim_options.x.*{told}"):
        getattr(options, read)(*arguments)


def test_the_description_of_http_services_has_what_the_shim_asks() -> None:
    description = yaml.safe_load((ROOT / "docs/openapi/http-shim.yaml").read_text())
    asked = {(path, method) for path, item in description["paths"].items() for method in item}
    assert asked == {
        ("/health", "get"),
        ("/session/enter", "post"),
        ("/tasks", "post"),
        ("/session/leave", "post"),
    }
    source = Path(sys.modules[HttpShim.__module__].__file__ or "").read_text()
    for path, _ in asked:
        assert f'"{path}"' in source
    for parameter in description["components"]["parameters"].values():
        assert f'"{parameter["name"]}"' in source
