"""The one place that says where a user's files are."""

from pathlib import Path

import pytest

from flame.runtime.directory import configuration_directory


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        ("/etc/flame", "/etc/flame"),
        ("~/mine", "/home/ada/mine"),
        ("", "/home/ada/.flame"),
        (None, "/home/ada/.flame"),
    ],
)
def test_it_is_what_the_environment_says_or_in_the_home(
    monkeypatch: pytest.MonkeyPatch, chosen: str | None, found: str
) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    given = {} if chosen is None else {"FLAME_CONFIG_DIR": chosen}
    assert configuration_directory(given) == Path(found)
