"""An explanation as a picture; it needs the extra `plot`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from zoo.explain import Explanation
from zoo.explain_page import shown
from zoo.whole_files import replacing

_BLUE, _ORANGE, _GREY = "#0072B2", "#D55E00", "#666666"
_GATE_LINES = {"forget": (_BLUE, "-"), "input": (_ORANGE, "-"), "output": ("#009E73", "--")}
# Beyond this many tokens, only every tenth has room for a label: its number.
_MOST_LABELS = 100
# It has a box for every character, and no character.
_NO_FONT = "Last Resort"


def draw(explanation: Explanation, path: str | os.PathLike[str]) -> bool:
    """Draws attributions, gates and attention by token; nothing without matplotlib.

    matplotlib's own font has no Chinese. Characters that it lacks are drawn in a font of this
    machine that has them; where there is none, tokens are numbered as on the page.

    Args:
        explanation: what `zoo.explain.explain` found.
        path: the file, a PNG.

    Returns:
        Whether it was drawn.

    Raises:
        RunError: if the file system refuses.

    Example:
        >>> draw(explain(trained, "A fine film."), "why.png")  # doctest: +SKIP
        True
    """
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        print("no picture: pip install 'sequence-zoo[plot]' brings what draws it")
        return False
    figure = picture(explanation)
    with replacing(Path(path)) as beside:
        figure.savefig(beside, format="png")
    return True


def picture(explanation: Explanation) -> Any:
    """Panels over the tokens, below them a map for every head.

    Returns:
        A `matplotlib.figure.Figure`.
    """
    from matplotlib.figure import Figure

    found = explanation
    fonts, missing = fonts_for("".join(found.tokens) + found.label)
    labels, size = labels_of(found.tokens, missing), len(found.tokens)
    notes = []
    if missing:
        notes.append("No font of this machine has all of these characters.")
    if size > _MOST_LABELS:
        labels = ["" if n % 10 else str(n) for n in range(1, size + 1)]
    if missing or size > _MOST_LABELS:
        notes.append("The numbers are those of the tokens on the HTML page.")
    width = float(np.clip(1.5 + 0.24 * len(labels), 8, 20))
    heads = [(name, n, head) for name, w in found.attention.items() for n, head in enumerate(w)]
    columns = 1 if len(heads) == 1 else 2 if len(heads) <= 4 else 4
    across = -(-len(heads) // columns)
    side = (width - 0.8) / max(columns, 2)
    heights = [3.4 + 1.7 * len(found.gates), across * (side + 0.25)]
    figure = Figure(figsize=(width, sum(heights)), dpi=110, layout="constrained")
    label = f'"{found.label}"' if not missing & set(found.label) else "the predicted class"
    figure.suptitle(
        f"{found.model} on {found.task}: {label}, {found.probabilities[found.label]:.1%}",
        fontsize=11,
        parse_math=False,
        fontfamily=fonts,
    )
    figure.supxlabel(" ".join(notes), fontsize=9, color=_GREY)
    parts = figure.subfigures(
        2 if heads else 1, 1, height_ratios=heights[: 2 if heads else 1], squeeze=False
    )
    upper, *lower = parts[:, 0]
    look = {
        "fontsize": float(np.clip(60 * (width - 1.5) / size, 7, 9)),
        "fontfamily": fonts,
        "parse_math": False,
    }
    turn = 90 if max(map(len, labels)) > 2 else 0
    _draw_panels(upper, found, labels, label, turn, look)
    for below in lower:
        grid = below.subplots(across, columns, squeeze=False).flat
        look["fontsize"] = float(np.clip(55 * side / size, 3.5, 8) if size <= _MOST_LABELS else 7)
        for axes, (name, n, head) in zip(grid, heads, strict=False):
            _draw_head(axes, f"{name}, head {n + 1}", head, labels, turn, look)
        for axes in below.axes[len(heads) :]:
            axes.set_axis_off()
    return figure


def fonts_for(text: str) -> tuple[list[str], set[str]]:
    """Which fonts of this machine show a text, and which of its characters none of them has.

    Example:
        >>> fonts_for("film")
        (['DejaVu Sans'], set())
    """
    from matplotlib import font_manager

    families = ["DejaVu Sans"]
    missing = _lacking(font_manager.findfont(families[0]), set(text))
    if missing:
        names = {font.name for font in font_manager.fontManager.ttflist}
        left = {
            # The face that matplotlib would draw with: a family's bold may have less.
            name: _lacking(font_manager.findfont(name), missing)
            for name in sorted(names)
            if not name.startswith(_NO_FONT)
        }
        while missing and (best := min(left, key=lambda name: len(left[name] & missing))):
            if not missing - left[best]:
                break
            families.append(best)
            missing &= left[best]
    return families, missing


def _lacking(path: str, characters: set[str]) -> set[str]:
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
    except (OSError, RuntimeError):  # removed, or of a kind that cannot be read
        return characters
    return {c for c in characters if not font.get_char_index(ord(c))}


def labels_of(tokens: Sequence[str], missing: set[str]) -> list[str]:
    """The tokens as labels; numbered if some cannot be drawn, and these by their number alone.

    Example:
        >>> labels_of(["a", "fine", "映", "!"], {"映"})
        ['1 a', '2 fine', '3', '4']
    """
    if not missing & set("".join(tokens)):
        return [shown(token) for token in tokens]
    labels = []
    for n, token in enumerate(tokens, start=1):
        # A number and a comma would read as another number.
        drawn = not missing & set(token) and any(map(str.isalnum, token))
        labels.append(f"{n} {shown(token)}" if drawn else str(n))
    return labels


def _draw_panels(
    figure: Any, found: Explanation, labels: list[str], label: str, turn: int, look: dict[str, Any]
) -> None:
    panels = figure.subplots(
        1 + len(found.gates),
        1,
        sharex=True,
        squeeze=False,
        height_ratios=[1.6] + [1] * len(found.gates),
    )[:, 0]
    places = np.arange(len(labels))
    first = panels[0]
    colors = [_BLUE if share > 0 else _ORANGE for share in found.attributions]
    first.bar(places, found.attributions, 0.8, color=colors)
    first.axhline(0, color=_GREY, linewidth=0.8)
    first.set_ylabel("attribution")
    first.set_title(
        f"for {label} (blue), against it (orange): {found.attributions.sum():+.3f} in all, "
        f"completeness error {found.completeness_error:+.1e} at {found.steps} steps",
        fontsize=9,
        loc="left",
        fontfamily=look["fontfamily"],
        parse_math=False,
    )
    for axes, (name, gates) in zip(panels[1:], found.gates.items(), strict=True):
        for gate, means in gates.means.items():
            color, style = _GATE_LINES[gate]
            axes.plot(places, means, style, color=color, label=gate, marker=".", ms=4, lw=1.2)
        axes.set_ylabel("gates, mean")
        other = axes.twinx()
        other.bar(places, gates.state_norm, 0.8, color="#DDDDDD", label="|c|, right axis")
        other.set_ylabel("|c|")
        # The bars behind the lines.
        axes.set_zorder(other.get_zorder() + 1)
        axes.patch.set_visible(False)
        axes.set_title(name, fontsize=9, loc="left")
        handles = [*axes.get_lines(), other.containers[0]]
        axes.legend(
            handles=handles,
            fontsize=8,
            frameon=False,
            ncols=len(handles),
            loc="lower right",
            bbox_to_anchor=(1, 0.97),
            borderaxespad=0,
        )
    panels[-1].set_xlim(-0.6, len(labels) - 0.4)
    for axes in panels:
        axes.set_xticks(places, labels, rotation=turn, **look)
        axes.tick_params(axis="x", labelbottom=axes is panels[0] or axes is panels[-1], length=2)
        axes.grid(axis="x", color="#EEEEEE", linewidth=0.6)
        axes.set_axisbelow(True)


def _draw_head(
    axes: Any, title: str, weights: np.ndarray, labels: list[str], turn: int, look: dict[str, Any]
) -> None:
    rows, columns = weights.shape
    axes.imshow(weights, cmap="Blues", aspect="auto", interpolation="nearest")
    scale = f"{weights.min():.3g}, white, to {weights.max():.3g}, blue"
    axes.set_title(f"{title}: {scale}", fontsize=9, loc="left")
    axes.set_xticks(range(columns), labels, rotation=turn, **look)
    axes.set_yticks(range(rows), labels if rows > 1 else ["all"], **look)
    axes.tick_params(length=2)
