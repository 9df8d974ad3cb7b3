"""Files that hold keys: what is in force while they are wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from aigateway_launcher.held_files import HeldFiles
from structlog.testing import capture_logs

EVENT = "key file not taken: the key in force stays"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "key"
    file.write_text(" first \n")
    return file


def test_a_file_that_is_empty_away_or_no_text_leaves_what_it_held(file: Path) -> None:
    files = HeldFiles()
    assert files.read(str(file)) == "first"
    with capture_logs() as logs:
        file.write_text("\n")
        assert files.read(str(file)) == "first"
        file.unlink()
        assert files.read(str(file)) == "first"
        file.write_bytes(b"\xff\xfe")
        assert files.read(str(file)) == "first"
        file.write_text("second")
        assert files.read(str(file)) == "second"
    assert [(line["event"], line["error"]) for line in logs] == [
        (EVENT, "it is empty"),
        (EVENT, "No such file or directory"),
        (EVENT, "it is not text"),
    ]
    assert {line["log_level"] for line in logs} == {"error"}
    assert "first" not in str([list(line.values()) for line in logs])


def test_the_same_complaint_is_made_once_and_again_after_the_file_was_right(file: Path) -> None:
    files = HeldFiles()
    files.read(str(file))
    with capture_logs() as logs:
        for text in ("", "", "second", ""):
            file.write_text(text)
            files.read(str(file))
            files.read(str(file))
    assert len(logs) == 2


def test_a_file_that_never_could_be_read_is_an_error_and_is_looked_for_all_the_same(tmp_path: Path) -> None:
    files = HeldFiles()
    with pytest.raises(OSError, match="No such file"):
        files.read(str(tmp_path / "none"))
    assert files.paths == {tmp_path / "none"}


def test_an_empty_file_at_the_start_holds_nothing(file: Path) -> None:
    file.write_text("")
    files = HeldFiles()
    with capture_logs() as logs:
        assert files.read(str(file)) == ""
    assert logs == []
