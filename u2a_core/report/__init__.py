"""What a command tells in the terminal: progress, a run's results, the state of data files."""

from u2a_core.report.data import DataOptions, show_data
from u2a_core.report.doctor import DoctorOptions, show_doctor
from u2a_core.report.estimate import show_estimate
from u2a_core.report.evidence import TableOptions, interval, results_table
from u2a_core.report.progress import ProgressBars, log_line
from u2a_core.report.runs import show
from u2a_core.report.several import ReportOptions, write_report

__all__ = [
    "DataOptions",
    "DoctorOptions",
    "ProgressBars",
    "ReportOptions",
    "TableOptions",
    "interval",
    "log_line",
    "results_table",
    "show",
    "show_data",
    "show_doctor",
    "show_estimate",
    "write_report",
]
