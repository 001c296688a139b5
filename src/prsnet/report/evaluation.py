"""What an evaluation found, as parts of a report: figures, answers to queries, pairs, cameras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from prsnet.evaluation import Evaluation
from prsnet.figures import (
    choose_queries,
    draw_average_precision,
    draw_camera_pairs,
    draw_cmc,
    draw_ranks,
    draw_roc,
    draw_similarities,
    rank_lists,
)
from prsnet.measures import Measures
from prsnet.metrics.statistics import Interval
from prsnet.metrics.verification import VerificationReport
from prsnet.report.page import Picture, Section, Table, write_report
from prsnet.version import __version__

RANKS = (1, 5, 10)
_MOST_CAMERAS = 20


def write_evaluations(path: Path | str, evaluations: Sequence[Evaluation], *, camera_filter: bool = True) -> Path:
    """Write one or more evaluations of a model as one HTML page.

    The pictures and their data lie beside ``path``, in a folder of its name with ``_figures`` for the ending: those of
    the first evaluation in it, those of the others in numbered folders below it.

    Args:
        path: the ``.html`` file.
        evaluations: of one model on one or more datasets; answers to queries are shown where the images can be read.
        camera_filter: as in the evaluations.

    Returns:
        The path.

    Raises:
        InputError: a file cannot be written.
    """
    target = Path(path)
    folder = target.with_name(f"{target.stem}_figures")
    sections: list[Section] = []
    for number, evaluation in enumerate(evaluations, start=1):
        place = folder if number == 1 else folder / str(number)
        place.mkdir(parents=True, exist_ok=True)
        sections += evaluation_sections(evaluation, place, camera_filter=camera_filter)
    facts = evaluations[0].facts
    return write_report(
        target,
        title=f"Evaluation: {', '.join(str(one.facts['dataset']) for one in evaluations)}",
        lead=f"Model: {facts['model']}",
        sections=sections,
        footer=f"prsnet {__version__}",
    )


def evaluation_sections(evaluation: Evaluation, folder: Path, *, camera_filter: bool = True) -> list[Section]:
    """Return everything that there is to say of one evaluation; pictures are written into ``folder``."""
    measures, name = evaluation.measures, str(evaluation.facts["dataset"])
    found = figures_section({name: measures}, folder, title=name)
    notes = [str(evaluation.facts["transductive"]), *evaluation.warnings]
    sections = [replace(found, text=tuple(note for note in notes if note))]
    shown = (*evaluation.query.paths, *evaluation.gallery.paths)
    if shown and all(Path(image).is_file() for image in shown):
        sections.append(answers_section(evaluation, folder, camera_filter=camera_filter))
    if measures.verification is not None:
        sections.append(pairs_section({name: measures.verification}, folder, shown=name))
    cameras = {camid for pair in measures.report.by_camera_pair for camid in pair}
    if 1 < len(cameras) <= _MOST_CAMERAS:
        sections.append(cameras_section(measures, folder))
    return sections


def figures_section(models: Mapping[str, Measures], folder: Path, *, title: str = "Figures") -> Section:
    """Return mAP, Rank-k and mINP of one or more models on the same dataset, with CMC and spread of AP.

    Args:
        models: name -> measures; the one of highest mAP is set in bold.
        folder: where ``cmc.png`` and ``average_precision.png`` are written.
        title: heading of the section.
    """
    rows = [[name, *_figures(measures)] for name, measures in models.items()]
    reports = {name: measures.report for name, measures in models.items()}
    best = max(range(len(rows)), key=lambda number: list(reports.values())[number].map) if len(rows) > 1 else None
    first = next(iter(reports.values()))
    caption = (
        f"Percent. In brackets the 95% interval over people. {first.queries} queries, {first.gallery} gallery images; "
        f"{first.protocol}."
    )
    header = ["", "mAP", *(f"Rank-{rank}" for rank in RANKS), "mINP"]
    named = ", ".join(f"{name} {report.map:.0%}" for name, report in reports.items())
    pictures = (
        Picture(
            draw_cmc(reports, folder / "cmc.png"),
            f"Share of queries with a right answer among the first k, for k from 1 to 20: {_first_ranks(models)}.",
            "The first right answer: for how many queries it stands among the first k.",
        ),
        Picture(
            draw_average_precision(reports, folder / "average_precision.png"),
            f"Share of the queries that reach each average precision. Means: {named}.",
            "Average precision: which share of the queries reaches how much. The area below a line is mAP.",
        ),
    )
    return Section(title, table=Table(header, rows, caption, best), pictures=pictures)


def answers_section(
    evaluation: Evaluation, folder: Path, *, queries: int = 6, seed: int = 0, camera_filter: bool = True
) -> Section:
    """Return the first answers to some random queries and to those that went worst.

    Args:
        evaluation: with embeddings of images that can be read.
        folder: where ``ranks.png`` and ``worst.png`` are written.
        queries: queries on each sheet.
        seed: which random queries.
        camera_filter: as in the evaluation.
    """
    pictures = []
    for name, worst, caption in (
        ("ranks.png", False, "Random queries."),
        ("worst.png", True, "The queries of lowest average precision: look here first to learn what goes wrong."),
    ):
        rows = choose_queries(evaluation.report, queries, worst=worst, seed=seed)
        lists = rank_lists(evaluation.query, evaluation.gallery, rows, exclude_same_camera=camera_filter)
        facts = {"model": evaluation.facts.get("model", ""), "protocol": evaluation.report.protocol}
        (path,) = draw_ranks(lists, evaluation.query, evaluation.gallery, folder / name, title=caption, facts=facts)
        right = ", ".join(f"{found.right.sum()} of {len(found.right)}" for found in lists)
        pictures.append(Picture(path, f"{caption} Right answers among the first ten: {right}.", caption))
    text = (
        "On the left the query, then the ten gallery images that are most alike. A green, whole frame with ✓ is the "
        "same person, a red, dashed frame with ✗ another one. Images of the query's own person in its own camera are "
        "left out, as the protocol wants it.",
    )
    return Section("Answers to queries", text, pictures=tuple(pictures))


def pairs_section(reports: Mapping[str, VerificationReport], folder: Path, *, shown: str) -> Section:
    """Return how well a threshold tells the same person from different people.

    Args:
        reports: name -> report, for the ROC.
        folder: where ``similarities.png`` and ``roc.png`` are written.
        shown: the name whose similarities and thresholds are shown.
    """
    report = reports[shown]
    rows = []
    for point in report.points:
        doubt = "" if point.supported else "too few pairs to be sure"
        rows.append([f"{100 * point.wished_fpr:g}", f"{point.threshold:.3f}", f"{100 * point.tpr:.1f}", doubt])
    header = ["false positives allowed, %", "threshold", "true positives, %", ""]
    caption = f"{shown}: equal error rate {report.eer:.1%} at {report.eer_threshold:.3f}; {report.identities} people."
    rates = ", ".join(f"{name} {found.eer:.1%}" for name, found in reports.items())
    pictures = (
        Picture(
            draw_similarities(report, folder / "similarities.png"),
            f"Histograms of the similarities of pairs of the same person and of different people. {caption}",
            f"Similarities of all valid pairs: {shown}.",
        ),
        Picture(
            draw_roc(reports, folder / "roc.png"),
            f"True against false positive rates. Equal error rates: {rates}.",
            "Pairs above a threshold: how many of the same person, for how many of different people.",
        ),
    )
    return Section("Same person or not", table=Table(header, rows, caption), pictures=pictures)


def cameras_section(measures: Measures, folder: Path) -> Section:
    """Return mAP by camera of the query and camera of the gallery; written as ``cameras.png`` into ``folder``."""
    picture = draw_camera_pairs(measures.report, folder / "cameras.png")
    pairs = measures.report.by_camera_pair.items()
    words = "; ".join(f"from {own} to {other} {part.map:.0%}" for (own, other), part in pairs)
    caption = "mAP of the queries of one camera against the gallery of another one alone."
    return Section("Cameras", pictures=(Picture(picture, f"{caption} {words}.", caption),))


def _figures(measures: Measures) -> list[str]:
    report, intervals = measures.report, measures.intervals
    cmc = [f"{100 * (report.per_query.first_match <= rank).mean():.1f}" for rank in RANKS[1:]]
    return [
        _with_interval(report.map, intervals.get("map")),
        _with_interval(float((report.per_query.first_match == 1).mean()), intervals.get("rank1")),
        *cmc,
        _with_interval(report.minp, intervals.get("minp")),
    ]


def _with_interval(value: float, interval: Interval | None) -> str:
    found = f"{100 * value:.1f}"
    return found if interval is None else f"{found} [{100 * interval.low:.0f}–{100 * interval.high:.0f}]"


def _first_ranks(models: Mapping[str, Measures]) -> str:
    shares = {name: (measures.report.per_query.first_match == 1).mean() for name, measures in models.items()}
    return "; ".join(f"{name} begins at {share:.0%}" for name, share in shares.items())
