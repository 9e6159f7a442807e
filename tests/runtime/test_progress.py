import logging

import pytest

from wsi_mil.runtime import progress
from wsi_mil.runtime.progress import ProgressMeter


def test_off_a_terminal_progress_is_plain_lines_with_rate_and_time_left(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0.0)
    caplog.set_level(logging.INFO)
    with ProgressMeter("extract s", total=40, unit="tiles", already=10) as meter:
        meter.advance(15)
        meter.advance(1, left="at most 4 s more")
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0].startswith("extract s: 25 of 40 tiles, ") and "tiles/s" in lines[0] and lines[0].endswith(" s left")
    assert lines[1].endswith(" tiles/s, at most 4 s more")
    assert lines[-1].startswith("extract s: 16 tiles in ")


def test_on_a_terminal_there_is_a_bar(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with ProgressMeter("extract s", total=40, unit="tiles") as meter:
        meter.advance(40)
    assert "extract s" in capfd.readouterr().err
