"""The texts that ``--storage`` allows."""

from pathlib import Path

import pytest

from flame.model.errors import InvalidConfiguration, Unavailable
from flame.storage.memory import MemoryStore
from flame.storage.open import open_store


def test_memory_opens_the_memory_engine() -> None:
    assert isinstance(open_store("memory"), MemoryStore)


def test_three_slashes_name_an_absolute_file(tmp_path: Path) -> None:
    store = open_store(f"sqlite://{tmp_path}/flame.db")
    assert store.name == "sqlite"
    store.close()
    assert (tmp_path / "flame.db").exists()


def test_two_slashes_name_a_relative_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    open_store("sqlite://flame.db").close()
    assert (tmp_path / "flame.db").exists()


@pytest.mark.parametrize(
    "url",
    ["", "sqlite", "sqlite:", "sqlite://", "sqlite:flame.db", "sqlite:///dir/", "disk", "memory:",
     "postgres://localhost/flame", "sqlite://flame.db?mode=ro"],
)  # fmt: skip
def test_any_other_text_is_refused_and_the_allowed_ones_are_named(url: str) -> None:
    with pytest.raises(InvalidConfiguration, match=r"memory, sqlite://.* or postgresql://"):
        open_store(url)


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfiguration, match=r"missing/flame\.db"):
        open_store(f"sqlite://{tmp_path}/missing/flame.db")


def test_a_postgresql_url_is_not_connected_to_until_it_is_loaded() -> None:
    store = open_store("postgresql://somebody@127.0.0.1:1/nowhere")
    assert store.name == "postgres"
    with pytest.raises(Unavailable, match="'nowhere' on 127"):
        store.load()
    store.close()


def test_a_url_that_libpq_does_not_know_is_refused_without_its_password() -> None:
    with pytest.raises(InvalidConfiguration, match="USER@HOST") as caught:
        open_store("postgresql://me:secret@host/db?no_such_option=1")
    assert "secret" not in str(caught.value)
