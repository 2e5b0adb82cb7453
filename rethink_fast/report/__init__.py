"""From a reproduction's record, and from records over time, to a page, a text and pictures. Nothing here computes.

page.py     report.html, in one file with everything in it    text.py   report.md
history.py  the records over time, in both                    parts.py  what every section of the page is made of
plots.py    a picture of each figure, ours over the paper's   words.py  numbers and verdicts as people write them
"""

from __future__ import annotations

from .write import write_report

__all__ = ["write_report"]
