"""The report of a run: one self-contained page, made from the run's files alone."""

from pathlib import Path

__all__ = ["write_report"]


def write_report(folder: Path, *, text: bool = True) -> Path:
    """See `interp.report.run_page`, which loads plotly: whoever wants a sentence of the report alone does not."""
    from interp.report.run_page import write_report as write

    return write(folder, text=text)
