"""An evaluation as one page that opens without a server."""

from openrayzer.reports.report import write_report as write_report
from openrayzer.reports.results import read_metrics as read_metrics
