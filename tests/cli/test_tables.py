"""Tables and documents: what people read and what programs parse."""

import json

import yaml

from flame.cli.tables import document, key_values, table


def test_a_table_has_the_usual_widths_and_no_blanks_at_the_ends_of_lines() -> None:
    assert table({"ID": 10, "State": 10, "Created": 10}, [[4, "Closed", "08:34:20"]]) == (
        "ID        State     Created\n4         Closed    08:34:20"
    )


def test_a_column_grows_for_a_long_cell_and_the_next_one_stays_apart() -> None:
    lines = table({"ID": 4, "App": 6}, [["flmping-x1y2z3", "pi"], ["a", "b"]]).splitlines()
    assert lines == ["ID              App", "flmping-x1y2z3  pi", "a               b"]


def test_what_is_absent_or_empty_prints_as_a_dash() -> None:
    assert table({"A": 3, "B": 3, "C": 3}, [[None, "", 0]]).splitlines()[1] == "-  -  0"


def test_a_cell_with_line_breaks_stays_on_its_line() -> None:
    assert table({"A": 3}, [["one\ntwo"]]).splitlines() == ["A", "one two"]


def test_continuation_lines_of_a_property_are_indented_under_it() -> None:
    assert key_values([("ID", 4), ("Events", "first\nsecond")]) == (
        "ID:      4\nEvents:  first\n         second"
    )


def test_a_document_reads_back_in_both_forms() -> None:
    value = {"metadata": {"name": "zwölf"}, "status": [1, None, "x"]}
    assert json.loads(document(value, "json")) == value
    assert yaml.safe_load(document(value, "yaml")) == value
    assert "zwölf" in document(value, "json")
