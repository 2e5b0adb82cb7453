"""From a reproduction's record to a page, a text and pictures. Nothing here computes a result.

page.py   report.html, in one file with everything in it      text.py   report.md
plots.py  a picture of each figure, ours over the paper's     words.py  numbers and verdicts as people write them
"""

from __future__ import annotations

from .write import write_report

__all__ = ["write_report"]
