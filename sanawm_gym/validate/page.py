"""The report as one page: sections, tables and headlines out of figures, everything embedded."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from string import Template
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Headline:
    """A figure of the table at the top."""

    label: str
    """What it is."""
    value: float | str | None
    """The figure; None where it is not defined."""
    interval: Sequence[float] | None = None
    """Its 95 % interval."""
    aim: str = ""
    """What it should be, in words."""
    met: bool | None = None
    """Whether it is; None without an aim."""

    def as_dict(self) -> dict[str, Any]:
        """For the figures in json."""
        return {
            "label": self.label,
            "value": self.value,
            "interval": self.interval,
            "aim": self.aim,
            "met": self.met,
        }


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part on the page."""

    name: str
    """Of the part."""
    title: str
    """In words."""
    question: str
    """What it asks, in one sentence."""
    headlines: Sequence[Headline] = ()
    """What goes to the top."""
    body: Sequence[str] = field(default_factory=list)
    """Pieces of HTML: tables, plots, sentences."""
    limits: str = ""
    """What the figures do not say."""


def aimed(
    label: str,
    value: float | None,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    interval: Sequence[float] | None = None,
) -> Headline:
    """A figure with an aim."""
    known = value is not None and math.isfinite(value)
    if at_least is not None:
        aim, met = f"at least {at_least:g}", known and value >= at_least  # type: ignore[operator]
    else:
        assert at_most is not None
        aim, met = f"at most {at_most:g}", known and value <= at_most  # type: ignore[operator]
    return Headline(
        label=label, value=value if known else None, interval=interval, aim=aim, met=bool(met)
    )


def number(value: Any, digits: int = 3) -> str:
    """A figure as it is read; a dash where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, int):
        return str(value)
    if value and abs(value) < 0.01:
        return f"{value:.2g}"
    return f"{value:.{digits}f}"


def span(interval: Sequence[float] | None, digits: int = 3) -> str:
    """An interval as it is read."""
    if interval is None:
        return ""
    return f"{number(interval[0], digits)} to {number(interval[1], digits)}"


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table; the first column holds words, the others figures."""
    head = "".join(f"<th>{html.escape(one)}</th>" for one in header)
    lines = ["<tr>" + "".join(f"<td>{number(cell)}</td>" for cell in row) + "</tr>" for row in rows]
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def said(text: str) -> str:
    """A paragraph."""
    return f"<p>{html.escape(text)}</p>"


def picture(data_of: bytes, caption: str, kind: str = "png") -> str:
    """A picture inside the page."""
    data = base64.b64encode(data_of).decode()
    words = html.escape(caption)
    return (
        f'<figure><img src="data:image/{kind};base64,{data}" alt="{words}">'
        f"<figcaption>{words}</figcaption></figure>"
    )


def render(
    *, title: str, facts: Mapping[str, str], sections: Sequence[Section], missing: Mapping[str, str]
) -> str:
    """The whole page.

    Args:
        title: At the top.
        facts: What was measured, with what and when.
        sections: Parts that were measured.
        missing: Parts that were not, and why.
    """
    template = (resources.files("sanawm_gym.validate") / "page.html").read_text(encoding="utf-8")
    links = "".join(f'<a href="#{one.name}">{html.escape(one.title)}</a>' for one in sections)
    return Template(template).substitute(
        title=html.escape(title),
        facts="".join(
            f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in facts.items()
        ),
        summary=_summary(sections),
        links=links,
        sections="".join(_section(one) for one in sections),
        missing=_missing(missing),
    )


def _summary(sections: Sequence[Section]) -> str:
    rows = []
    for section in sections:
        for one in section.headlines:
            mark = {True: "met", False: "not met", None: ""}[one.met]
            shade = {True: "good", False: "bad", None: ""}[one.met]
            rows.append(
                f'<tr><td><a href="#{section.name}">{html.escape(one.label)}</a></td>'
                f'<td class="value">{number(one.value)}</td><td>{span(one.interval)}</td>'
                f'<td>{html.escape(one.aim)}</td><td><span class="{shade}">{mark}</span></td></tr>'
            )
    head = "<th>figure</th><th>value</th><th>95 % interval</th><th>aim</th><th></th>"
    return (
        f'<div class="scroll"><table class="summary"><thead><tr>{head}</tr></thead><tbody>'
        f"{''.join(rows)}</tbody></table></div>"
    )


def _section(section: Section) -> str:
    limits = ""
    if section.limits:
        limits = f'<p class="limits"><b>Limits.</b> {html.escape(section.limits)}</p>'
    return (
        f'<section id="{section.name}"><h2>{html.escape(section.title)}</h2>'
        f'<p class="question">{html.escape(section.question)}</p>{"".join(section.body)}{limits}'
        "</section>"
    )


def _missing(missing: Mapping[str, str]) -> str:
    if not missing:
        return ""
    lines = "".join(
        f"<li><b>{html.escape(name)}</b>: {html.escape(why)}</li>" for name, why in missing.items()
    )
    return f'<section id="missing"><h2>Left out</h2><ul>{lines}</ul></section>'
