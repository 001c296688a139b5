"""Reports as self-contained HTML pages, and the parts that say what an evaluation found."""

from prsnet.report.evaluation import (
    answers_section,
    cameras_section,
    figures_section,
    pairs_section,
    write_evaluations,
)
from prsnet.report.page import Picture, Section, Table, write_report

__all__ = [
    "Picture",
    "Section",
    "Table",
    "answers_section",
    "cameras_section",
    "figures_section",
    "pairs_section",
    "write_evaluations",
    "write_report",
]
