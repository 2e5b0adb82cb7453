"""From records to a text, a page and pictures: of a reproduction, or of runs over one another.

write.py         reads the folders, writes the report
document.py      report.md of a reproduction; every word of a record is escaped
run_document.py  report.md of runs
runs.py          runs as they are shown: curves, labels, and what must be known to compare them
html.py          report.html: report.md rendered, with the pictures in it
plots.py         the pictures
terms.py         the paper's terms in one table, from the findings of several experiments
wording.py       the words and numbers of a cell
"""

from __future__ import annotations

from .write import write_report

__all__ = ["write_report"]
