"""How far a run is said to be."""

import pytest

from interp.run import pace
from interp.run.pace import Pace, clock
from interp.run.pipeline import STAGES


@pytest.fixture
def at(monkeypatch):
    """Sets the clock."""
    now = [0.0]
    monkeypatch.setattr(pace.time, "monotonic", lambda: now[0])

    def put(seconds: float) -> None:
        now[0] = seconds

    return put


def test_every_measured_stage_is_one():
    assert {*pace.SECONDS} <= {stage.name for stage in STAGES}


def test_a_heading_says_where_how_long_and_what_is_left_in_proportion(at):
    run = Pace(["capture", "signals", "steer", "phases"])
    assert run.heading("capture") == "capture, stage 1 of 4"
    at(90)  # ten times the seconds of the bundled model's
    run.finish("capture")
    seconds = 10 * sum(pace.SECONDS[name] for name in ("signals", "steer", "phases"))
    assert run.heading("signals") == f"signals, stage 2 of 4; 1:30 so far, about {seconds / 60:.0f} min left"


def test_what_was_done_before_counts_as_done_and_tells_nothing_of_the_speed(at):
    run = Pace(["capture", "signals", "phases"])
    run.skip("capture")
    at(60)
    assert run.heading("signals") == "signals, stage 2 of 3"
    run.finish("signals")
    assert run.heading("phases") == "phases, stage 3 of 3; 1:00 so far, about some seconds left"


@pytest.mark.parametrize(("seconds", "words"), [(5.9, "0:05"), (65, "1:05"), (7205, "2:00:05")])
def test_a_clock_shows_minutes_and_hours(seconds, words):
    assert clock(seconds) == words
