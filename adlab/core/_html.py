"""Tables in HTML, for the `_repr_html_` by which notebooks show a result."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

__all__ = ["table"]


def table(header: Sequence[object], rows: Iterable[Sequence[object]], caption: str = "") -> str:
    """Return a table whose cells are escaped; a caption stands above it.

    >>> table(["x"], [[1], ["<2"]])
    '<table><tr><th>x</th></tr><tr><td>1</td></tr><tr><td>&lt;2</td></tr></table>'
    """
    parts = [f"<caption>{html.escape(caption)}</caption>"] if caption else []
    parts.append(_row("th", header))
    parts.extend(_row("td", row) for row in rows)
    return f"<table>{''.join(parts)}</table>"


def _row(tag: str, cells: Sequence[object]) -> str:
    return f"<tr>{''.join(f'<{tag}>{html.escape(str(cell))}</{tag}>' for cell in cells)}</tr>"
