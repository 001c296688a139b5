"""Charts of an evaluation: CMC, average precision, similarities of pairs, ROC, cameras. PNG, with its data as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from prsnet.errors import InputError
from prsnet.figures.canvas import BLUE, CYCLE, INK, ORANGE, paper, write_beside
from prsnet.metrics.verification import VerificationReport
from prsnet.types import RankReport

_DASHES = ("-", "--", "-.", ":")
_MARKS = ("o", "s", "^", "D", "v", "P", "X")
_MOST_CAMERAS = 20


def draw_cmc(reports: Mapping[str, RankReport], out: Path | str, *, ranks: int = 20) -> Path:
    """Draw the share of queries with a right answer among the first k, for k = 1..``ranks``, one line per report.

    The shares are exact at every k: they come from each query's rank of its first match.

    Args:
        reports: name -> report.
        out: the ``.png`` file.
        ranks: the last k.

    Returns:
        The path; beside it a JSON file with ``ranks`` and, under ``cmc``, name -> shares.
    """
    steps = np.arange(1, ranks + 1)
    lines = {n: [float((r.per_query.first_match <= k).mean()) for k in steps] for n, r in _some(reports).items()}
    with paper(out) as (figure, (axis,)):
        for number, (name, shares) in enumerate(lines.items()):
            axis.plot(steps, shares, label=name, **_look(number), markersize=4)
        axis.set(title="CMC", xlabel="rank k", ylabel="queries found within rank k")
        axis.set_ylim(0, 1.02)
        axis.set_xticks([k for k in (1, *range(5, ranks + 1, 5)) if k <= ranks])
        axis.yaxis.set_major_formatter(PercentFormatter(1))
        _legend(figure, lines)
    write_beside(out, {"chart": "cmc", "ranks": steps.tolist(), "cmc": lines})
    return Path(out)


def draw_average_precision(reports: Mapping[str, RankReport], out: Path | str) -> Path:
    """Draw which share of the queries reaches which average precision; the area below a line is mAP.

    Returns:
        The path; beside it a JSON file with name -> ``ap`` (of every query, rising) and ``map``.
    """
    spread: dict[str, dict[str, Any]] = {
        name: {"ap": np.sort(report.per_query.ap).tolist(), "map": report.map}
        for name, report in _some(reports).items()
    }
    with paper(out) as (figure, (axis,)):
        for number, (name, line) in enumerate(spread.items()):
            reached = 1 - np.arange(len(line["ap"]) + 1) / len(line["ap"])
            look = {key: value for key, value in _look(number).items() if key != "marker"}
            values = [0.0, *line["ap"], 1.0]
            axis.stairs(reached, values, baseline=None, label=f"{name} (mAP {line['map']:.1%})", linewidth=1.8, **look)
        axis.set(title="Average precision of the queries", xlabel="average precision")
        axis.set_ylabel("queries that reach it")
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1.02)
        axis.xaxis.set_major_formatter(PercentFormatter(1))
        axis.yaxis.set_major_formatter(PercentFormatter(1))
        figure.legend(loc="outside lower center", ncols=2)
    write_beside(out, {"chart": "average precision", "reports": spread})
    return Path(out)


def draw_similarities(report: VerificationReport, out: Path | str, *, fpr: float = 0.01, bins: int = 100) -> Path:
    """Draw how alike pairs of the same person and pairs of different people are, and a threshold between them.

    Args:
        report: all valid pairs.
        out: the ``.png`` file.
        fpr: false positive rate that the threshold is drawn for.
        bins: bins over -1..1; only those that hold pairs are shown.

    Returns:
        The path; beside it a JSON file with ``edges``, ``positives``, ``negatives`` (pairs per bin) and ``threshold``.
    """
    counts = report.pairs.histogram(bins)
    edges, positives, negatives = (np.asarray(counts[name]) for name in ("edges", "positives", "negatives"))
    point = report.pairs.operating_point(fpr)
    with paper(out) as (_, (axis,)):
        for pairs, name, colour, hatch in (
            (negatives, "different people", ORANGE, "////"),
            (positives, "same person", BLUE, None),
        ):
            shares = pairs / pairs.sum()
            label = f"{name}: {pairs.sum():,} pairs"
            axis.stairs(shares, edges, fill=True, facecolor=colour, edgecolor=colour, alpha=0.25, hatch=hatch)
            axis.stairs(shares, edges, color=colour, label=label, linewidth=1.6)
        label = f"threshold {point.threshold:.3f}: accepts {point.tpr:.1%} of the same, {point.fpr:.1%} of different"
        axis.axvline(point.threshold, color=INK, linestyle="--", label=label)
        filled = np.flatnonzero(positives + negatives)
        axis.set_xlim(edges[max(filled[0] - 1, 0)], edges[min(filled[-1] + 2, bins)])
        axis.set_ylim(0, 1.45 * axis.get_ylim()[1])
        axis.set(title="Similarities of pairs", xlabel="cosine similarity", ylabel="share of the pairs of its kind")
        axis.legend(loc="upper left")
    write_beside(out, {"chart": "similarities of pairs", **counts, "threshold": point.to_dict()})
    return Path(out)


def draw_roc(reports: Mapping[str, VerificationReport], out: Path | str) -> Path:
    """Draw true against false positive rates, the latter on a logarithmic axis, one line per report.

    Returns:
        The path; beside it a JSON file with name -> ``roc`` (``threshold``, ``fpr``, ``tpr``), ``eer`` and ``points``.
    """
    lines: dict[str, dict[str, Any]] = {
        name: {"roc": report.pairs.roc(), "eer": report.eer, "points": [point.to_dict() for point in report.points]}
        for name, report in _some(reports).items()
    }
    with paper(out) as (figure, (axis,)):
        for number, (name, line) in enumerate(lines.items()):
            shown = np.array(line["roc"]["fpr"]) > 0
            rates = (np.array(line["roc"][kind])[shown] for kind in ("fpr", "tpr"))
            look = {key: value for key, value in _look(number).items() if key != "marker"}
            axis.plot(*rates, label=f"{name} (EER {line['eer']:.1%})", **look)
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter(lambda rate, _: f"{100 * rate:g}%")
        axis.xaxis.set_minor_formatter(lambda *_: "")
        axis.set_xlim(right=1)
        axis.set_ylim(0, 1.02)
        axis.set(title="ROC", xlabel="false positive rate", ylabel="true positive rate")
        axis.yaxis.set_major_formatter(PercentFormatter(1))
        figure.legend(loc="outside lower center", ncols=2)
    write_beside(out, {"chart": "roc", "reports": lines})
    return Path(out)


def draw_camera_pairs(report: RankReport, out: Path | str) -> Path:
    """Draw mAP for every camera of queries against every camera of the gallery alone, as a table of coloured cells.

    Args:
        report: made with ``camera_pairs=True``.
        out: the ``.png`` file.

    Returns:
        The path; beside it a JSON file with ``query_cameras``, ``gallery_cameras`` and ``pairs`` (figures per pair).

    Raises:
        InputError: the report has no pairs of cameras, or more cameras than can be shown.
    """
    pairs = report.by_camera_pair
    if not pairs:
        raise InputError("no pairs of cameras in the report", hint="make it with camera_pairs=True")
    asked, searched = (sorted({pair[side] for pair in pairs}) for side in (0, 1))
    if max(len(asked), len(searched)) > _MOST_CAMERAS:
        raise InputError(f"{len(asked)} x {len(searched)} cameras: expected at most {_MOST_CAMERAS} of a side")
    values = np.full((len(asked), len(searched)), np.nan)
    for (own, other), part in pairs.items():
        values[asked.index(own), searched.index(other)] = part.map
    with paper(out, size=(2.2 + 0.75 * len(searched), 1.5 + 0.5 * len(asked))) as (_, (axis,)):
        axis.imshow(values, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for row, column in np.ndindex(*values.shape):
            known = not np.isnan(values[row, column])
            text = f"{values[row, column]:.0%}" if known else "–"
            dark = known and values[row, column] > 0.6
            axis.text(column, row, text, ha="center", va="center", color="white" if dark else INK)
        axis.set_xticks(range(len(searched)), [str(camid) for camid in searched])
        axis.set_yticks(range(len(asked)), [str(camid) for camid in asked])
        axis.set(title="mAP by cameras", xlabel="camera of the gallery", ylabel="camera of the query")
        axis.grid(False)
    plain = {f"{own}>{other}": part.to_dict() for (own, other), part in pairs.items()}
    write_beside(out, {"chart": "camera pairs", "query_cameras": asked, "gallery_cameras": searched, "pairs": plain})
    return Path(out)


def _some(reports: Mapping[str, Any]) -> Mapping[str, Any]:
    if not reports:
        raise InputError("no report to draw")
    return reports


def _look(number: int) -> dict[str, Any]:
    """Return colour, dash and mark of a line: they differ in all three, so that colour is not needed."""
    return {
        "color": CYCLE[number % len(CYCLE)],
        "linestyle": _DASHES[number % len(_DASHES)],
        "marker": _MARKS[number % len(_MARKS)],
    }


def _legend(figure: Figure, lines: Mapping[str, Any]) -> None:
    """Put the names of the lines below everything, where they cover none."""
    if len(lines) > 1:
        figure.legend(loc="outside lower center", ncols=2)
