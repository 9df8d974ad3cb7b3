"""CSV that any spreadsheet may open."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from aigateway_edge.admin.csv_form import to_csv
from hypothesis import given
from hypothesis import strategies as st


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_a_header_then_a_line_per_row_with_fields_of_objects() -> None:
    rows: list[dict[str, Any]] = [{"model": 'say "hi", you', "usage": {"text": 3}}, {"model": "b", "usage": None}]
    assert to_csv(("model", "usage.text"), rows) == 'model,usage.text\r\n"say ""hi"", you",3\r\nb,\r\n'


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", '=HYPERLINK("http://x")'])
def test_no_text_is_taken_for_a_formula(text: str) -> None:
    assert read(to_csv(("a",), [{"a": text}]))[1] == ["'" + text]


def test_numbers_stay_numbers() -> None:
    assert read(to_csv(("a", "b"), [{"a": -1.5, "b": 0}]))[1] == ["-1.5", "0"]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_any_text_comes_back(text: str) -> None:
    (_, [cell, _]) = read(to_csv(("a", "b"), [{"a": text, "b": "x"}]))
    assert cell in (text, "'" + text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
