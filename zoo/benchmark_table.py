"""What `zoo.benchmark` measured, as lines, as JSON and in a picture."""

import json
import math
from pathlib import Path
from statistics import geometric_mean

from zoo.benchmark import MEMORY, POLICIES, TRAINING


def ratio(settings: dict[str, dict[str, float]]) -> float:
    """The peer's best over ours, each at the setting that is best for it; NaN without a peer.

    Example:
        >>> ratio({"1x2": {"keras": 3.0, "zoo": 2.0}, "2x2": {"keras": 4.0, "zoo": 1.5}})
        2.0
    """
    peer, *ours = next(iter(settings.values()))
    best = [min(found[name] for found in settings.values()) for name in (peer, *ours)]
    return best[0] / best[1] if ours else float("nan")


def table(results: dict[str, dict[str, dict[str, float]]]) -> str:
    """A line a case: what was measured by setting, and the ratio; then `means`.

    Args:
        results: seconds, or MiB, by case, thread setting and name.

    Example:
        >>> print(table({"a": {"1x2": {"keras": 3.0, "zoo": 2.0}}}))
        a                                               1.50  1x2: keras 3000.0 ms, zoo 2000.0 ms
    """
    lines = []
    for case, settings in results.items():
        unit, factor = ("MiB", 1) if case in MEMORY else ("ms", 1e3)
        found = "  ".join(
            f"{threads}: " + ", ".join(f"{n} {factor * x:.1f} {unit}" for n, x in by_name.items())
            for threads, by_name in settings.items()
        )
        value = ratio(settings)
        lines.append(f"{case:<46} {value:5.2f}  {found}".replace("  nan", "    –"))
    return "\n".join(lines + means(results))


def means(results: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """A line a precision: the geometric mean of the ratios of LSTMs that were trained in it.

    Args:
        results: as `table`'s.

    Example:
        >>> cases = "lstm training 1x2x3 float32", "lstm training 1x2x4 float32"
        >>> times = ({"1x2": {"keras": seconds, "zoo": 1.0}} for seconds in (2.0, 8.0))
        >>> print(*means(dict(zip(cases, times))))
        lstm training, mean of 2 float32                4.00
    """
    lines = []
    for policy in POLICIES:
        ratios = [
            ratio(settings)
            for case, settings in results.items()
            if case.startswith(f"{TRAINING} ") and case.endswith(f" {policy}")
        ]
        if len(ratios) > 1:
            title = f"{TRAINING}, mean of {len(ratios)} {policy}"
            lines.append(f"{title:<46} {geometric_mean(ratios):5.2f}")
    return lines


def save(
    out: Path, results: dict[str, dict[str, dict[str, float]]], title: str, picture: bool = True
) -> None:
    """Writes `out` with `.txt`, `.json` and, where matplotlib is installed, `.png` at its end."""
    from zoo.whole_files import replacing  # late: it takes seconds

    out.parent.mkdir(parents=True, exist_ok=True)
    ratios = {case: ratio(settings) for case, settings in results.items()}
    ratios = {case: value for case, value in ratios.items() if not math.isnan(value)}
    content = {"machine and date": title, "seconds or MiB": results, "ratios": ratios}
    texts = {
        ".txt": f"{title}\n\n{table(results)}\n",
        ".json": json.dumps(content, indent=2) + "\n",
    }
    for ending, text in texts.items():
        with replacing(out.with_name(out.name + ending)) as beside:
            beside.write_text(text, "utf-8")
    if picture:
        from zoo.plots import draw_ratios

        draw_ratios(ratios, title, out.with_name(f"{out.name}.png"))
