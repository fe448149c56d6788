"""The report of an evaluation: one page that opens without a server."""

from openrayzer.evaluation.report.evaluation_folder import read_metrics as read_metrics
from openrayzer.evaluation.report.page import write_report as write_report
