"""Where items stand in a script."""

import pytest

from flame.cli.items import fill, has_places, numbered, with_place

ITEM = "./a/b.wav"


@pytest.mark.parametrize(
    ("code", "filled"),
    [
        ("{}", "./a/b.wav"),
        ("{.}.mp3", "./a/b.mp3"),
        ("{/}", "b.wav"),
        ("{//}", "./a"),
        ("{/.}", "b"),
        ("{#}", "3"),
        ("${#} ${} {x} {} {}", "${#} ${} {x} ./a/b.wav ./a/b.wav"),
    ],
)
def test_places_are_filled(code: str, filled: str) -> None:
    assert fill(code, ITEM, 3) == filled


def test_a_name_without_a_directory_is_in_this_one() -> None:
    assert fill("{//}", "b.wav", 1) == "."


def test_what_an_item_says_is_no_code() -> None:
    assert fill("echo {}", "$(rm -rf /) {}", 1) == "echo '$(rm -rf /) {}'"


@pytest.mark.parametrize("code", ["ls {/}", "ls $1", 'ls "$@"', "ls ${1}", "ls\nls", "ls {#}"])
def test_a_script_that_says_where_its_item_goes_stays_as_it_is(code: str) -> None:
    assert with_place(code) == code


def test_a_command_without_a_place_gets_its_item_at_the_end() -> None:
    assert with_place("gzip -9\n") == "gzip -9 {}"
    assert not has_places("find -exec x $1 ${#}")


def test_without_items_only_the_number_has_a_place() -> None:
    assert numbered("find -exec echo {} {/} ${#} {#}", 3) == "find -exec echo {} {/} ${#} 3"
