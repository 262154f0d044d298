"""What is particular to the wasm shim: compiled code that is kept, and what a module sees."""

import dataclasses
from pathlib import Path

import pytest
import wasmtime

from flame.executor_manager.shims import ServiceFailure, ServiceUnusable, wasm
from flame.model.specs import ApplicationSpec, ShimKind
from flame.model.volumes import Volume
from tests.shims.test_contract import Running, running, shim_spec

FILES = """(module
  (import "wasi_snapshot_preview1" "fd_prestat_get"
    (func $prestat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func (export "_start") (call $exit (call $prestat (i32.const 3) (i32.const 0)))))"""


def module(directory: Path, text: str) -> ApplicationSpec:
    path = directory / "module.wat"
    path.write_text(text)
    return ApplicationSpec(shim=ShimKind.WASM, command=str(path))


def compiled(directory: Path) -> list[Path]:
    return sorted((directory / "wasm-cache").iterdir())


def test_code_is_compiled_once_per_node_and_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, shim_spec("wasm")):
        [file] = compiled(tmp_path)
    monkeypatch.setattr(wasmtime, "Module", _OnlyFromCache)
    with running(tmp_path, shim_spec("wasm")) as own:
        assert own.task(b"x") == b"x"
    assert compiled(tmp_path) == [file]


class _OnlyFromCache:
    deserialize = wasmtime.Module.deserialize

    def __init__(self, *arguments: object) -> None:
        raise AssertionError("compiled again")


def test_other_content_is_other_code(tmp_path: Path) -> None:
    for text in ("(nop)", "unreachable"):
        spec = module(tmp_path, f'(module (func (export "_start") {text}))')
        with running(tmp_path, spec) as own:
            own.enter()
            assert (own.task(b"") == b"") == (text == "(nop)")
    assert len(compiled(tmp_path)) == 2


def test_a_cache_that_cannot_be_used_is_replaced(tmp_path: Path) -> None:
    with running(tmp_path, shim_spec("wasm")):
        [file] = compiled(tmp_path)
    good = file.read_bytes()
    file.write_bytes(b"half a fi")
    with running(tmp_path, shim_spec("wasm")) as own:
        assert own.task(b"x") == b"x"
    assert len(file.read_bytes()) == len(good)
    assert compiled(tmp_path) == [file]


def test_a_module_sees_no_file(tmp_path: Path) -> None:
    with running(tmp_path, module(tmp_path, FILES)) as own:
        own.enter()
        assert own.task(b"") == "the module exited with code 8"  # no such file descriptor


MAKES_A_FILE = """(module
  (import "wasi_snapshot_preview1" "path_open"
    (func $open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (data (i32.const 16) "new")
  (func (export "_start") (call $exit (call $open (i32.const 3) (i32.const 0)
    (i32.const 16) (i32.const 3)  ;; the path
    (i32.const 1) (i64.const 64) (i64.const 0)  ;; create it, to write
    (i32.const 0) (i32.const 0)))))"""


@pytest.mark.parametrize("writable", [True, False])
def test_a_module_has_its_applications_volumes(tmp_path: Path, writable: bool) -> None:
    out = tmp_path / "out"
    out.mkdir()
    volume = Volume("out", str(out), writable)
    spec = dataclasses.replace(
        module(tmp_path, MAKES_A_FILE),
        volumes=(volume,),
        environments=((volume.variable, volume.path),),  # as executors say where it is
    )
    with running(tmp_path, spec) as own:
        own.enter()
        answer = own.task(b"")
    assert (answer == b"") == writable
    assert (out / "new").exists() == writable


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("(module)", "exports no function _start"),
        ("(modul)", "not a module that can be run"),
        ('(module (import "env" "f" (func)) (func (export "_start")))', "cannot be linked with"),
        ('(module (global (export "_start") i32 (i32.const 1)))', "exports no function _start"),
    ],
)
def test_what_is_no_command_module_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ServiceUnusable, match=said):
        Running(tmp_path, module(tmp_path, text))


def test_a_missing_module_is_named(tmp_path: Path) -> None:
    spec = ApplicationSpec(shim=ShimKind.WASM, command="gone.wasm")
    with pytest.raises(ServiceUnusable, match=r"gone.wasm' cannot be read: No such file"):
        Running(tmp_path, spec)


def test_a_component_of_another_world_is_told(tmp_path: Path) -> None:
    spec = module(tmp_path, "")
    Path(spec.command or "").write_bytes(wasmtime.wat2wasm("(component)"))
    with pytest.raises(ServiceUnusable, match="exports no function invoke"):
        Running(tmp_path, spec)


OTHER = """(component
  (core module $m (func (export "invoke") (result i32) (i32.const 1)))
  (core instance $i (instantiate $m))
  (func (export "invoke") (result u32) (canon lift (core func $i "invoke"))))"""


def test_a_component_with_another_signature_fails_its_tasks(tmp_path: Path) -> None:
    with running(tmp_path, module(tmp_path, OTHER)) as own:
        assert "is not func(input: list<u8>)" in str(own.task(b"x"))


def test_a_component_is_compiled_once_and_kept_within_its_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, shim_spec("wasm component", fuel="1000", memory="128k")) as own:
        [file] = compiled(tmp_path)
        assert "fuel of 1000" in str(own.task(b"!wait"))
        assert "could not run" in str(own.task(bytes(200_000))) or "trapped" in str(
            own.task(bytes(200_000))
        )
        assert own.task(b"x") == b"x"
    monkeypatch.setattr(wasm, "Component", _OnlyCachedComponents)
    with running(tmp_path, shim_spec("wasm component")) as own:
        assert own.task(b"x") == b"x"
    assert compiled(tmp_path) == [file]


def test_common_data_must_be_text(tmp_path: Path) -> None:
    with running(tmp_path, shim_spec("wasm")) as own:
        own.enter("schön".encode())
        with pytest.raises(ServiceFailure, match="common data is not text"):
            own.enter(b"\xff\x00")


def test_without_wasmtime_the_binding_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wasm, "_MISSING", "No module named 'wasmtime'")
    with pytest.raises(ServiceUnusable, match=r"install flame\[wasm\]"):
        Running(tmp_path, shim_spec("wasm"))


class _OnlyCachedComponents(wasmtime.component.Component):
    def __init__(self, *_: object) -> None:
        raise AssertionError("compiled again")
