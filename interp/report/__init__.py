"""The report of a run: one self-contained page, made from the run's files alone."""

from interp.report.run_page import write_report

__all__ = ["write_report"]
