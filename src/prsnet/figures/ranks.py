"""Rank lists: a query and what the model finds most alike, right answers framed green, wrong ones red and dashed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from prsnet.data.images import read_image
from prsnet.errors import DataError, InputError
from prsnet.figures.canvas import GREEN, RED, write_beside
from prsnet.figures.sheets import Cell, Frame, draw_sheet
from prsnet.metrics.inputs import check_pair, cosine_inputs
from prsnet.metrics.placing import place_queries
from prsnet.metrics.sides import SKIP_REASONS, Sides, cameras_known, gather_sides, not_junk, skip_reasons
from prsnet.metrics.similarity import CosineRows
from prsnet.rng import numpy_stream
from prsnet.types import DISTRACTOR_PID, UNKNOWN_CAMID, Embeddings, RankReport

RIGHT, WRONG = Frame(GREEN), Frame(RED, "dashed")
NOTE = "✓ and a whole frame: the same person. ✗ and a dashed frame: another one. Below: cosine similarity."


@dataclass(frozen=True, slots=True)
class RankList:
    """The first answers to one query.

    Attributes:
        query: row of the query.
        rows: (k,) int64, gallery rows, the most similar first.
        similarities: (k,) float64, cosine.
        right: (k,) bool, whether each answer shows the query's identity.
        ap: average precision over the whole gallery, 0..1.
        first_match: rank of the first right answer, from 1; it may be beyond k.
        relevant: right answers in the whole gallery.
        valid: gallery images that were ranked.
    """

    query: int
    rows: npt.NDArray[np.int64]
    similarities: npt.NDArray[np.float64]
    right: npt.NDArray[np.bool_]
    ap: float
    first_match: int
    relevant: int
    valid: int


def rank_lists(
    query: Embeddings,
    gallery: Embeddings,
    queries: Sequence[int],
    *,
    count: int = 10,
    exclude_same_camera: bool = True,
    device: torch.device | str | None = None,
) -> list[RankList]:
    """Return the first ``count`` answers to some queries under the protocol of :func:`prsnet.rank_report`.

    What the report leaves out is left out here, too: junk, the query itself, images of its identity and camera. A
    right answer stands behind wrong ones of the same similarity. One row of similarities is in memory at a time.

    Args:
        query: (Q, D).
        gallery: (G, D).
        queries: rows of ``query``.
        count: answers per query; fewer where the gallery has fewer.
        exclude_same_camera: as in the report.
        device: where to compute; None for where the vectors are.

    Raises:
        DataError: embeddings that do not fit together, or a query that the report does not count.
    """
    check_pair(query, gallery)
    kept = not_junk(gallery)
    filtered = exclude_same_camera and cameras_known(query, gallery)
    sides = gather_sides(query, gallery, kept, other_camera=filtered)
    source = CosineRows(*cosine_inputs(query, gallery, kept, device))
    reasons = skip_reasons(sides, "other" if filtered else "all")
    for row in queries:
        if reasons[row]:
            name = query.paths[row] if query.paths else f"row {row}"
            raise DataError(f"query {name} cannot be ranked: {SKIP_REASONS[reasons[row]]}", hint="choose another query")
    return [_rank_one(source, sides, kept, row, count) for row in queries]


def _rank_one(source: CosineRows, sides: Sides, kept: npt.NDArray[np.int64], row: int, count: int) -> RankList:
    rows = np.array([row], dtype=np.int64)
    figures = place_queries(source, sides, rows)
    similarities = source.rows(torch.from_numpy(rows))[0].double().cpu().numpy()
    same = sides.gallery_pids == sides.query_pids[row]
    out = same & (sides.gallery_camids == sides.query_camids[row]) & (sides.query_camids[row] != UNKNOWN_CAMID)
    if not sides.other_camera:
        out[:] = False
    if sides.own_column[row] >= 0:
        out[sides.own_column[row]] = True
    valid = np.flatnonzero(~out)
    order = np.lexsort((valid, same[valid], -similarities[valid]))[:count]
    chosen = valid[order]
    return RankList(
        query=row,
        rows=kept[chosen],
        similarities=similarities[chosen],
        right=same[chosen],
        ap=float(figures.ap[0]),
        first_match=int(figures.first_match[0]),
        relevant=int(figures.relevant[0]),
        valid=int(figures.valid[0]),
    )


def choose_queries(report: RankReport, count: int, *, worst: bool = False, seed: int = 0) -> list[int]:
    """Return rows of counted queries: the ones of lowest AP, worst first, or random ones in their order.

    Raises:
        InputError: ``count`` is below 1.
    """
    if count < 1:
        raise InputError(f"queries: expected at least 1, got {count}")
    ranks = report.per_query
    count = min(count, len(ranks))
    if worst:
        return [int(row) for row in ranks.row[np.argsort(ranks.ap, kind="stable")[:count]]]
    chosen = numpy_stream(seed, "rank-lists").choice(len(ranks), size=count, replace=False)
    return [int(row) for row in ranks.row[np.sort(chosen)]]


def draw_ranks(
    lists: Sequence[RankList],
    query: Embeddings,
    gallery: Embeddings,
    out: Path | str,
    *,
    title: str = "",
    facts: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Draw rank lists: on one sheet if ``out`` is a PNG file, else one picture per query in the folder ``out``.

    Beside each picture lies a JSON file with what it shows: ``title``, the ``facts``, and for every query its
    ``path``, ``pid``, ``camid``, ``ap``, ``first_match``, ``relevant``, ``valid`` and ``answers``.

    Args:
        lists: from :func:`rank_lists`.
        query: the embeddings that were ranked, with paths.
        gallery: likewise.
        out: PNG file or folder.
        title: a line above each picture.
        facts: what else belongs into the JSON, e.g. model and protocol.

    Returns:
        The pictures.

    Raises:
        DataError: there are no paths to show, or an image cannot be read.
    """
    if not query.paths or not gallery.paths:
        raise DataError("the embeddings have no paths, so there are no images to show", hint="embed images from files")
    target = Path(out)
    if target.suffix.lower() == ".png":
        groups = {target: list(lists)}
    else:
        groups = {target / _file_name(found, query, number): [found] for number, found in enumerate(lists, start=1)}
    for path, group in groups.items():
        longest = max((len(found.rows) for found in group), default=0)
        headings = ["query", *(str(rank) for rank in range(1, longest + 1))]
        rows = [_cells(found, query, gallery) for found in group]
        draw_sheet(rows, path, headings=headings, title=title, note=NOTE, lead=1)
        described = [_described(found, query, gallery) for found in group]
        write_beside(path, {"title": title, **(facts or {}), "queries": described})
    return list(groups)


def _file_name(found: RankList, query: Embeddings, number: int) -> str:
    return f"{number:03d}_{Path(query.paths[found.query]).stem}.png"


def _cells(found: RankList, query: Embeddings, gallery: Embeddings) -> list[Cell]:
    asked = (*_whose(query, found.query), f"AP {found.ap:.1%}")
    cells = [Cell(read_image(query.paths[found.query]), asked)]
    for row, similarity, right in zip(found.rows, found.similarities, found.right, strict=True):
        lines = (f"{'✓' if right else '✗'} {similarity:.3f}", *_whose(gallery, int(row)))
        cells.append(Cell(read_image(gallery.paths[row]), lines, RIGHT if right else WRONG))
    return cells


def _whose(side: Embeddings, row: int) -> tuple[str, str]:
    pid, camid = int(side.pids[row]), int(side.camids[row])
    person = "distractor" if pid == DISTRACTOR_PID else f"person {pid}"
    return person, "" if camid == UNKNOWN_CAMID else f"camera {camid}"


def _described(found: RankList, query: Embeddings, gallery: Embeddings) -> dict[str, Any]:
    answers = [
        {"rank": rank, **_facts(gallery, int(row)), "similarity": float(similarity), "right": bool(right)}
        for rank, (row, similarity, right) in enumerate(
            zip(found.rows, found.similarities, found.right, strict=True), start=1
        )
    ]
    figures = {name: getattr(found, name) for name in ("ap", "first_match", "relevant", "valid")}
    return {**_facts(query, found.query), **figures, "answers": answers}


def _facts(side: Embeddings, row: int) -> dict[str, Any]:
    return {"path": side.paths[row], "pid": int(side.pids[row]), "camid": int(side.camids[row])}
