"""What a count of tokens tells about a prompt that Ollama cut without a word.

The numbers are those people measured: https://github.com/ollama/ollama/issues/17427 and 17889.
"""

from __future__ import annotations

import pytest
from aigateway.v1 import chat_pb2
from aigateway_providers.ollama.window import Window


def detail(window: Window, counted: int | None) -> str:
    found = window.notes(counted)
    assert all((note.field, note.action) == ("messages", chat_pb2.TRANSLATION_ACTION_CLAMPED) for note in found)
    return "".join(note.detail for note in found)


@pytest.mark.parametrize(
    ("num_ctx", "counted"), [(4096, 2050), (4096, 2051), (8192, 4098), (32_768, 16_387), (65_536, 32_770)]
)
def test_half_of_the_window_is_what_a_cut_leaves(num_ctx: int, counted: int) -> None:
    told = f"likely cut, {counted} tokens are what a context window of {num_ctx} leaves of a longer prompt"
    assert detail(Window(num_ctx), counted) == f"{told}, raise `num_ctx`"


def test_the_kept_beginning_counts_too() -> None:
    assert detail(Window(4096, num_keep=96), 2096)
    assert not detail(Window(4096, num_keep=96), 2050)


def test_a_window_that_is_full_was_too_small() -> None:
    assert detail(Window(4096), 4096) == (
        "the prompt fills the context window of 4096 tokens, what is over was cut, raise `num_ctx`"
    )


def test_more_text_than_any_window_of_that_size_holds_lost_its_oldest_messages() -> None:
    assert detail(Window(4096, characters=6 * 4096 + 1), 3000) == (
        "likely cut, 24577 characters hardly fit a context window of 4096 tokens, raise `num_ctx`"
    )


@pytest.mark.parametrize(
    ("window", "counted"),
    [
        (Window(4096, characters=6 * 4096), 3000),
        (Window(4096), 2049),
        (Window(4096), 2052),
        (Window(4096, characters=100_000), 20_000),  # the server knows no window (MLX), and read it all
        (Window(4096, characters=100_000), None),
        (Window(4096, characters=100_000), 0),
        (Window(None, characters=5 * 2050), 2050),
        (Window(None, characters=100_000), 2049),
    ],
)
def test_nothing_is_told_of_a_prompt_that_may_have_been_read_whole(window: Window, counted: int | None) -> None:
    assert window.notes(counted) == []


@pytest.mark.parametrize(("counted", "num_ctx"), [(2050, 4096), (16_386, 32_768), (131_074, 262_144)])
def test_of_an_unknown_window_the_defaults_are_tried_with_the_length_of_the_text(counted: int, num_ctx: int) -> None:
    assert f"a context window of {num_ctx}" in detail(Window(None, characters=5 * counted + 1), counted)
