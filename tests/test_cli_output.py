"""Results are printed as they come."""

from __future__ import annotations

import json

import pytest

from flask_chunked import cli_output
from flask_chunked.cli_output import Results

COLUMNS = (("NAME", 6), ("SIZE", 0))


def test_a_row_is_printed_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    with Results(COLUMNS, "files", as_json=False) as results:
        assert capsys.readouterr().out == ""
        results.add({}, ("a", "1"), None)
        assert capsys.readouterr().out == "NAME    SIZE\na       1\n"
        results.add({}, ("b", "22"), "why it stays")
        assert capsys.readouterr().out == "b       22\n  why it stays\n"
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("count", [0, 1, 3])
def test_json_is_one_list(capsys: pytest.CaptureFixture[str], count: int) -> None:
    with Results(COLUMNS, "files", as_json=True) as results:
        for number in range(count):
            results.add({"n": number, "text": "a\nb"}, (), None)
    expected = [{"n": number, "text": "a\nb"} for number in range(count)]
    assert json.loads(capsys.readouterr().out) == expected


def test_an_error_leaves_a_list_that_can_be_parsed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(KeyError), Results(COLUMNS, "files", as_json=True) as results:
        results.add({"n": 1}, (), None)
        raise KeyError
    assert json.loads(capsys.readouterr().out) == [{"n": 1}]
    with pytest.raises(KeyError), Results(COLUMNS, "files", as_json=True):
        raise KeyError
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_goes_to_a_terminal_only(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    monkeypatch.setattr(cli_output, "INTERVAL", 0.0)
    with Results(COLUMNS, "files", as_json=False) as results:
        for _ in range(2):
            results.examine()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert ("2 files" in captured.err) is terminal
