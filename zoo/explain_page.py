"""An explanation as one HTML file that fetches nothing: the reader's browser has the fonts."""

import base64
import os
import unicodedata
from html import escape
from pathlib import Path

import numpy as np
import tensorflow as tf

from zoo.explain import Explanation
from zoo.whole_files import replacing

# Blue and orange of Okabe & Ito's palette, as in `zoo.plots`.
_FOR, _AGAINST = (0, 114, 178), (213, 94, 0)
_LONGEST_LABEL = 14
# How the table writes the columns that are no gates.
_FORMS = {"|c|": "{:.2f}", "received": "{:.2%}"}

_STYLE = """
:root { color-scheme: light }
body { font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff; margin: 2rem auto;
       padding: 0 1.5rem; max-width: 84rem }
h1 { font-size: 1.5rem; margin: 0 } h2 { font-size: 1.15rem; margin: 2.2rem 0 .3rem }
p { margin: .4rem 0; max-width: 60rem } .note { color: #555; font-size: .9rem }
table { border-collapse: collapse; font-size: .85rem; font-variant-numeric: tabular-nums }
th { font-weight: 600; text-align: right; padding: .1rem .6rem; white-space: nowrap;
     vertical-align: bottom }
td { text-align: right; padding: .05rem .6rem; border-top: 1px solid #eee }
th.group { text-align: center; border-bottom: 2px solid #ccc }
td.token { text-align: left; max-width: 16rem; overflow-wrap: anywhere }
td.from, th.from { border-left: 2px solid #ccc }
td.bar { width: 12rem; padding: 0 .6rem } td.bar svg { display: block }
.share { display: inline-block; height: .7rem; background: rgb(0, 114, 178) }
.text { font-size: 1.15rem; line-height: 2.1 }
.text span { padding: .15em .3em; border-radius: .2em; margin-right: .15em; white-space: pre-wrap }
.unknown { text-decoration: underline dotted #888 }
.scroll { overflow-x: auto } .heads { display: flex; flex-wrap: wrap; gap: 1.5rem }
figure { margin: 0 } figcaption { font-size: .9rem } svg text { font: 10px system-ui, sans-serif }
image { image-rendering: pixelated }
"""


def write_html(explanation: Explanation, path: str | os.PathLike[str]) -> None:
    """Writes the page, whole or not at all.

    Args:
        explanation: what `zoo.explain.explain` found.
        path: the file.

    Raises:
        RunError: if the file system refuses.

    Example:
        >>> write_html(explain(trained, "A fine film."), "why.html")  # doctest: +SKIP
    """
    with replacing(Path(path)) as beside:
        # What was no text stays none.
        beside.write_text(page(explanation), "utf-8", errors="replace")


def page(explanation: Explanation) -> str:
    """The page's source; all that comes from the text or the task is escaped."""
    found = explanation
    title = f"{found.label}, {found.probabilities[found.label]:.1%}"
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="note">{escape(found.model)} on {escape(found.task)}</p>',
        _probabilities(found),
        "<h2>The text as the model read it</h2>",
        _text(found),
        "<h2>Token by token</h2>",
        _legend(found),
        _table(found),
        *(_heads(name, weights, found) for name, weights in found.attention.items()),
    ]
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    return (
        '<!doctype html>\n<html><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def shown(token: str) -> str:
    """A token as a label: its beginning, if it is long.

    Example:
        >>> shown("incomprehensibilities")
        'incomprehensi…'
    """
    return token if len(token) <= _LONGEST_LABEL else token[: _LONGEST_LABEL - 1] + "…"


def completeness(explanation: Explanation) -> str:
    """What the attributions add up to, and by how much they miss what they should.

    Returns:
        One line.
    """
    found = explanation
    due = found.logit - found.baseline_logit
    return (
        f"attributions sum to {found.attributions.sum():+.4f}; "
        f"logit {found.logit:+.4f} less baseline {found.baseline_logit:+.4f} is {due:+.4f}; "
        f"completeness error {found.completeness_error:+.2e} at {found.steps} steps"
    )


def _probabilities(found: Explanation) -> str:
    ranked = sorted(found.probabilities.items(), key=lambda item: -item[1])
    rows = (
        f'<tr><td class="token">{escape(name)}</td><td>{share:.1%}</td><td class="token">'
        f'<span class="share" style="width:{12 * share:.2f}rem"></span></td></tr>'
        for name, share in ranked
    )
    return f"<table>{''.join(rows)}</table>"


def _text(found: Explanation) -> str:
    largest = np.abs(found.attributions).max() or 1.0
    spans = []
    half = (len(found.tokens) + 1) // 2
    for n, (token, unknown, share) in enumerate(
        zip(found.tokens, found.unknown, found.attributions, strict=True)
    ):
        if n == half and found.tokens_left_out:
            spans.append(f'<i class="note">({found.tokens_left_out:,} tokens left out)</i>')
        color = ", ".join(map(str, _FOR if share > 0 else _AGAINST))
        spans.append(
            f'<span{_unknown(unknown)} title="{n + 1}: {share:+.3f}" dir="auto" '
            f'style="background:rgba({color}, {0.75 * abs(share) / largest:.2f})">'
            f"{escape(token)}</span>"
        )
    return f'<p class="text">{"<wbr>".join(spans)}</p>'


def _unknown(unknown: bool) -> str:
    return ' class="unknown"' if unknown else ""


def _legend(found: Explanation) -> str:
    lines = [
        f'Attribution: what a token adds to the logit of "{found.label}" (integrated gradients '
        "from a text without meaning). Blue speaks for it, orange against it. Together: "
        f"{completeness(found)}."
    ]
    if any(found.unknown):
        lines.append("Dotted: not in the vocabulary; to the model, all of these are one token.")
    if found.gates:
        lines.append(
            "Gates, mean over the units: forget, near 1 keeps the state; input, near 1 takes the "
            "token in; output, near 1 shows the state. |c|: length of the cell state after the "
            "token; backward layers read from the end. Shaded from the column's lowest to its "
            "highest value."
        )
    if found.attention:
        lines.append("Attention received: share of all rows' and heads' weight.")
    return "".join(f'<p class="note">{escape(line)}</p>' for line in lines)


def _table(found: Explanation) -> str:
    groups: dict[str, dict[str, np.ndarray]] = {
        name: {**gates.means, "|c|": gates.state_norm} for name, gates in found.gates.items()
    }
    groups |= {name: {"received": w.mean(axis=(0, 1))} for name, w in found.attention.items()}
    top = '<th colspan="2"></th><th class="group from" colspan="2">attribution</th>'
    names = '<th>#</th><th class="token" style="text-align:left">token</th><th class="from"></th>'
    names += "<th></th>"
    columns = []
    for group, values in groups.items():
        top += f'<th class="group from" colspan="{len(values)}">{escape(group)}</th>'
        for place, (name, column) in enumerate(values.items()):
            names += f"<th{_from(place)}>{escape(name)}</th>"
            columns.append((place, _FORMS.get(name, "{:.3f}"), column))
    largest = np.abs(found.attributions).max() or 1.0
    rows = []
    for n, token in enumerate(found.tokens):
        share = found.attributions[n]
        cells = (
            f"<td>{n + 1}</td>"
            f'<td class="token"><bdi{_unknown(found.unknown[n])}>{escape(token)}</bdi></td>'
            f'<td class="from">{share:+.3f}</td><td class="bar">{_bar(share / largest)}</td>'
        )
        for place, form, column in columns:
            low, high = column.min(), column.max()
            depth = 0.45 * (column[n] - low) / (high - low) if high > low else 0.0
            style = f' style="background:rgba(0, 114, 178, {depth:.2f})"'
            cells += f"<td{_from(place)}{style}>{form.format(column[n])}</td>"
        rows.append(f"<tr>{cells}</tr>")
    head = f"<thead><tr>{top}</tr><tr>{names}</tr></thead>"
    body = "\n".join(rows)
    return f'<div class="scroll"><table>{head}<tbody>\n{body}\n</tbody></table></div>'


def _from(place: int) -> str:
    return "" if place else ' class="from"'


def _bar(share: float) -> str:
    """A bar from the middle, to the right for shares above zero."""
    color = ", ".join(map(str, _FOR if share > 0 else _AGAINST))
    width = 50 * abs(share)
    start = 50 if share > 0 else 50 - width
    return (
        '<svg width="100%" height="12" viewBox="0 0 100 12" preserveAspectRatio="none">'
        '<rect x="49.8" width="0.4" height="12" fill="#999"/>'
        f'<rect x="{start:.1f}" y="1" width="{width:.1f}" height="10" fill="rgb({color})"/></svg>'
    )


def _heads(layer: str, weights: np.ndarray, found: Explanation) -> str:
    """One map a head: rows take from columns."""
    figures = (
        f"<figure><figcaption>head {n + 1}: from {head.min():.3g}, white, to {head.max():.3g}, blue"
        f"</figcaption>{_map(head, found.tokens)}</figure>"
        for n, head in enumerate(weights)
    )
    return (
        f"<h2>Attention in the layer {escape(layer)}</h2>"
        '<p class="note">Each row is a token, and sums to one: what it takes from the token of '
        f"each column. Spread evenly, each would be {1 / len(found.tokens):.3g}.</p>"
        f'<div class="heads">{"".join(figures)}</div>'
    )


def _width(word: str) -> int:
    """About how many pixels a label takes."""
    return sum(11 if unicodedata.east_asian_width(c) in "WF" else 7 for c in word)


def _map(weights: np.ndarray, tokens: tuple[str, ...]) -> str:
    rows, columns = weights.shape
    cell = max(3, min(14, 480 // columns))
    # Where cells are too small for words: numbers, at every tenth.
    every = 1 if cell >= 9 else 10
    words = {n: shown(token) if every == 1 else str(n + 1) for n, token in enumerate(tokens)}
    words = {n: word for n, word in words.items() if (n + 1) % every == 0}
    room = 10 + max((_width(word) for word in words.values()), default=0)
    labels = []
    for n, word in words.items():
        middle = room + cell * (n + 0.5)
        place = f"translate({middle + 4:.0f},{room - 5}) rotate(-90)"
        if len(word) == 1:  # upright
            place = f'translate({middle:.0f},{room - 5})" text-anchor="middle'
        labels.append(f'<text transform="{place}">{escape(word)}</text>')
        if rows > 1:
            place = f'x="{room - 5}" y="{middle + 4:.0f}" text-anchor="end"'
            labels.append(f"<text {place}>{escape(word)}</text>")
    low, high = weights.min(), weights.max()
    shades = (weights - low)[..., None] / ((high - low) or 1.0)  # float[R, T, 1]
    pixels = 255 - shades * (255 - np.array(_FOR))  # float[R, T, 3]
    png = tf.io.encode_png(tf.constant(np.round(pixels), tf.uint8)).numpy()
    width, height = cell * columns, cell * rows
    return (
        f'<svg width="{room + width + 5}" height="{room + height + 5}" role="img">'
        f"{''.join(labels)}"
        f'<image x="{room}" y="{room}" width="{width}" height="{height}" '
        'preserveAspectRatio="none" '
        f'href="data:image/png;base64,{base64.b64encode(png).decode()}"/>'
        f'<rect x="{room}" y="{room}" width="{width}" height="{height}" fill="none" '
        'stroke="#ccc"/></svg>'
    )
