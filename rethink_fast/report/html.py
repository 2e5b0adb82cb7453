"""The report as one page: the Markdown rendered, the pictures in it. No script, and nothing from elsewhere."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from .plots import inline

FOLDER = Path(__file__).parent
VERDICTS = {"agrees": "good", "pass": "good", "differs": "bad", "fail": "bad", "failed": "bad"}
"""The colour of a cell under "verdict", by its first word."""


def page(markdown: str, pictures: Mapping[str, str]) -> str:
    """Return the whole page.

    markdown: of text.py; HTML in it is shown as text.
    pictures: the SVG of each picture, by the name that the Markdown has for it.
    """
    renderer = MarkdownIt("commonmark", {"html": False}).enable("table")
    renderer.add_render_rule("image", _picture)
    tokens = renderer.parse(markdown)
    sections = _number_sections(tokens)
    _label_cells(tokens)
    body = renderer.renderer.render(tokens, renderer.options, {"pictures": pictures})
    shell = Environment(loader=FileSystemLoader(FOLDER), autoescape=True).get_template("page.html")
    style = (FOLDER / "page.css").read_text(encoding="utf-8")
    return shell.render(sections=sections, style=Markup(style), body=Markup(body))


def _picture(_: Any, tokens: Sequence[Token], place: int, __: Any, env: dict[str, Any]) -> str:
    name = str(tokens[place].attrs["src"])
    return f'<span class="plot">{inline(env["pictures"][name], Path(name).stem)}</span>'


def _number_sections(tokens: Sequence[Token]) -> dict[str, str]:
    """Give every heading of the second level an id, and return the titles by id."""
    sections: dict[str, str] = {}
    for token, following in itertools.pairwise(tokens):
        if token.type == "heading_open" and token.tag == "h2":
            name = f"section-{len(sections) + 1}"
            token.attrSet("id", name)
            sections[name] = "".join(child.content for child in following.children or ()).split(":")[0]
    return sections


def _label_cells(tokens: Sequence[Token]) -> None:
    """Give every cell the name of its column, for narrow screens, and every verdict its colour."""
    columns: list[str] = []
    place = 0
    for token, following in itertools.pairwise(tokens):
        text = "".join(child.content for child in following.children or ())
        if token.type == "thead_open":
            columns = []
        elif token.type == "th_open":
            columns.append(text)
        elif token.type == "tr_open":
            place = 0
        elif token.type == "td_open":
            token.attrSet("data-label", columns[place])
            if columns[place] == "verdict":
                token.attrSet("class", f"verdict {VERDICTS.get(text.split(' ')[0], '')}".strip())
            place += 1
