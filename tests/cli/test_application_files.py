"""Application files: what is read, and how a wrong one is answered."""

from pathlib import Path

import pytest
import yaml

from flame.cli.application_files import read_applications
from flame.cli.documents.applications import specification_document
from flame.model.errors import InvalidConfiguration
from flame.model.specs import ApplicationSpec, Sandbox, ShimKind
from flame.model.volumes import Volume

FULL = ApplicationSpec(
    shim=ShimKind.PYTHON,
    description="everything",
    labels=("a", "b"),
    image="img",
    command="/bin/run",
    arguments=("--fast", "1"),
    environments=(("A", "1"), ("B", "two")),
    working_directory="/tmp",
    max_instances=3,
    delay_release=60,
    standby=600,
    schema_input="in",
    schema_output="out",
    schema_common_data="common",
    has_schema=True,
    url="file:///pkg",
    installer="python",
    entry_point="module:Service",
    reusable=True,
    pickled_service=b"\x80\x05pickle",
    pickled_with="3.11",
    local_modules=b"PK",
    shim_options=(("start_timeout", "5"),),
    sandbox=Sandbox.NETWORK,
    preload=True,
    volumes=(Volume("data", "/srv/data"), Volume("out", "/srv/out", writable=True)),
)


def write(directory: Path, text: str) -> str:
    path = directory / "app.yaml"
    path.write_text(text)
    return str(path)


def test_a_file_may_hold_several_applications(tmp_path: Path) -> None:
    text = """
metadata: {name: one}
spec: {command: /bin/one}
---
metadata: {name: two}
spec: {entry_point: "package.module:Service"}
---
"""
    assert read_applications(write(tmp_path, text)) == [
        ("one", ApplicationSpec(shim=ShimKind.HOST, command="/bin/one")),
        ("two", ApplicationSpec(shim=ShimKind.PYTHON, entry_point="package.module:Service")),
    ]


def test_what_flmctl_shows_is_what_flmctl_reads(tmp_path: Path) -> None:
    shown = {"metadata": {"name": "x"}, "spec": specification_document(FULL), "status": {}}
    assert read_applications(write(tmp_path, yaml.safe_dump(shown))) == [("x", FULL)]


def test_environments_may_also_be_a_list_of_names_and_values(tmp_path: Path) -> None:
    text = "metadata: {name: x}\nspec: {environments: [{name: A, value: '1'}]}"
    [(_, spec)] = read_applications(write(tmp_path, text))
    assert spec.environments == (("A", "1"),)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "holds no application"),
        ("metadata: [", "is not YAML"),
        ("just a text", "the document is 'just a text'; it must be a mapping"),
        ("spec: {}", "metadata is missing"),
        ("metadata: {}\nspec: {}", "metadata.name is missing"),
        ("metadata: {name: 7}\nspec: {}", "metadata.name is 7; it must be a text"),
        ("metadata: {name: x}", "spec is missing"),
        ("metadata: {name: x}\nspec: {comand: y}", "'comand'; allowed are shim, shim_options"),
        ("metadata: {name: x}\nspec: {shim: Gprc}", "'Gprc'; it must be one of Host, Wasm, Python"),
        ("metadata: {name: x}\nspec: {arguments: -v}", "spec.arguments .* a list of texts"),
        ("metadata: {name: x}\nspec: {max_instances: -1}", "a whole number from 0"),
        ("metadata: {name: x}\nspec: {reusable: maybe}", "true or false"),
        ("metadata: {name: x}\nspec: {sandbox: tight}", r"strict \(no network\) or network"),
        ("metadata: {name: x}\nspec: {volumes: {data: /x}}", "a list of mappings with name, path"),
        (
            "metadata: {name: x}\nspec: {volumes: [{name: a, path: b}]}",
            "spec.volumes: the path of a",
        ),
        (
            "metadata: {name: x}\nspec: {volumes: [{name: a, path: /b, mode: w}]}",
            r"spec.volumes\[0\].mode",
        ),
        ("metadata: {name: x}\nspec: {environments: {A: 1}}", "put it in quotes"),
        ("metadata: {name: x}\nspec: {shim_options: {a: 1}}", "shim_options.a is 1; .* in quotes"),
        ("metadata: {name: x}\nspec: {pickled_service: '*'}", "base64"),
        ("metadata: {name: x}\nspec: {schema: {in: y}}", "spec.schema has the key 'in'"),
    ],
)
def test_a_wrong_file_is_refused_with_file_key_and_what_is_allowed(
    tmp_path: Path, text: str, told: str
) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InvalidConfiguration, match=told) as caught:
        read_applications(path)
    assert str(caught.value).startswith(path)


def test_the_document_is_named_when_there_are_several(tmp_path: Path) -> None:
    path = write(tmp_path, "metadata: {name: x}\nspec: {}\n---\nmetadata: {name: y}\n")
    with pytest.raises(InvalidConfiguration, match="document 2: spec is missing"):
        read_applications(path)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(InvalidConfiguration, match="/no/such/file: cannot be read"):
        read_applications("/no/such/file")
