"""From a reproduction's record to a text, a page and pictures. Nothing here computes.

write.py   reads and checks reproduction.json, writes the report
document.py  report.md, which escapes every word of the record
html.py report.html: report.md rendered, with the pictures in it
plots.py   a picture of each figure, ours over the paper's
terms.py   the paper's terms in one table, from the findings of several experiments
wording.py the words and numbers of a cell
"""

from __future__ import annotations

from .write import write_report

__all__ = ["write_report"]
