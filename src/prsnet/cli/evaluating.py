"""The verbs ``evaluate`` and ``compare``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prsnet.cli.options import CompareConfig, EvaluateConfig
from prsnet.files import require_writable, write_json

if TYPE_CHECKING:
    from prsnet.evaluation import Evaluation
    from prsnet.measures import Measures


def evaluate(config: EvaluateConfig) -> None:
    """Run ``prsnet evaluate``: the table on standard output, JSON and HTML where asked for."""
    for file in (config.out, config.html):
        if file is not None:
            require_writable(file)
    if config.embeddings is not None:
        results = [_measure_files(config, *config.embeddings)]
        plain = results[0].measures.to_dict()
        files = [f"{side:<10}{results[0].facts[side]}" for side in ("query", "gallery")]
        lines = [*files, "", *figures(results[0].measures)]
    else:
        results = [_measure_run(config, data) for data in (config.data, *config.also)]
        plain, lines = _all_together(results)
    print("\n".join(lines))
    if config.out is not None:
        write_json(config.out, plain)
        print(f"report: {config.out}")
    if config.html is not None:
        from prsnet.report import write_evaluations

        print(f"page: {write_evaluations(config.html, results, camera_filter=config.camera_filter)}")


def _all_together(results: Sequence[Evaluation]) -> tuple[dict[str, Any], list[str]]:
    """Return the report of the first dataset, with those of the others under ``also``, and the lines about all."""
    lines = [line for result in results for line in (*heading(result), "", *figures(result.measures), "")][:-1]
    if len(results) > 1:
        lines += ["", *summary(results)]
    also = [result.to_dict() for result in results[1:]]
    return {**results[0].to_dict(), **({"also": also} if also else {})}, lines


def summary(results: Sequence[Evaluation]) -> list[str]:
    """Return a table of the main figures, one line per dataset; a star marks what a model may have seen."""
    lines = [f"{'dataset':<28}{'queries':>9}{'gallery':>9}{'mAP':>8}{'Rank-1':>8}{'mINP':>8}"]
    for result in results:
        report, star = result.report, "*" if result.facts["transductive"] else ""
        shares = (report.map, report.cmc.get(1, float("nan")), report.minp)
        name = f"{result.facts['dataset'][:26]}{star}"
        lines.append(f"{name:<28}{report.queries:>9}{report.gallery:>9}" + "".join(f"{100 * s:>8.2f}" for s in shares))
    return lines


def _measure_run(config: EvaluateConfig, data: str) -> Evaluation:
    from prsnet.evaluation import evaluate as measure

    return measure(
        config.run,
        data,
        ranks=config.ranks,
        flip=config.flip,
        camera_filter=config.camera_filter,
        rerank=config.rerank,
        centroids=config.centroids,
        verification=config.verification or config.html is not None,
        layout=config.layout,
        split_seed=config.split_seed,
        batch_size=config.batch_size,
        workers=config.workers,
        device=config.device,
    )


def _measure_files(config: EvaluateConfig, query_file: str, gallery_file: str) -> Evaluation:
    """Measure embeddings that somebody else's model made."""
    from prsnet.evaluation import Evaluation
    from prsnet.measures import measure, read_foreign_embeddings

    query, gallery = (read_foreign_embeddings(path) for path in (query_file, gallery_file))
    measures = measure(
        query,
        gallery,
        ranks=config.ranks,
        camera_filter=config.camera_filter,
        rerank=config.rerank,
        centroids=config.centroids,
        verification=config.verification or config.html is not None,
    )
    named = {"query": query_file, "gallery": gallery_file}
    facts = {"model": f"{query_file}, {gallery_file}", "dataset": "embeddings", "transductive": "", **named}
    return Evaluation(measures, query, gallery, facts)


def heading(result: Evaluation) -> list[str]:
    """Return the lines about model and dataset that stand above the figures."""
    seed = result.facts["data"].get("split_seed")
    return [
        f"dataset   {result.facts['dataset']}" + ("" if seed is None else f" (split seed {seed})"),
        *(f"note      {warning}" for warning in result.warnings),
        *([f"WARNING   {result.facts['transductive']}"] if result.facts["transductive"] else []),
    ]


def figures(measures: Measures) -> list[str]:
    """Return the figures as lines: percentages, the protocol, and what was left out."""
    report = measures.report
    skipped = ", ".join(f"{count} {reason}" for reason, count in report.skipped.items() if count) or "none"
    lines = [
        f"protocol  {report.protocol}",
        f"queries   {report.queries} counted, left out: {skipped}; gallery {report.gallery} images",
        "",
        *_columns("", report.map, report.cmc, {"mINP": report.minp}),
    ]
    shown = [f"{name} {100 * i.low:.1f} to {100 * i.high:.1f}" for name, i in measures.intervals.items()]
    if shown:
        lines.append(f"95% of such sets of people: {', '.join(shown)}")
    pairs = report.by_camera_pair
    if 1 < len(pairs) <= 12:
        lines += [
            f"camera {a} to {b}: mAP {100 * p.map:.2f}, Rank-1 {100 * p.rank1:.2f}" for (a, b), p in pairs.items()
        ]
    if measures.reranked is not None:
        reranked = measures.reranked
        lines += ["", "re-ranked", *_columns("", reranked.map, reranked.cmc, {"mINP": reranked.minp})]
    if measures.centroids is not None:
        centroids = measures.centroids
        lines += ["", centroids.protocol, *_columns("centroid ", centroids.centroid_map, centroids.centroid_cmc, {})]
    if measures.verification is not None:
        found = measures.verification
        lines += ["", f"verification: equal error rate {100 * found.eer:.2f}% at {found.eer_threshold:.4f}"]
        lines += [f"  FPR {p.wished_fpr:g}: TPR {100 * p.tpr:.2f}% at {p.threshold:.4f}" for p in found.points]
    return lines


def _columns(prefix: str, mean_ap: float, cmc: Mapping[int, float], more: Mapping[str, float]) -> list[str]:
    columns = {f"{prefix}mAP": mean_ap, **{f"{prefix}Rank-{k}": share for k, share in sorted(cmc.items())}, **more}
    width = max(7, *(len(name) for name in columns))
    return [
        "  ".join(f"{name:>{width}}" for name in columns),
        "  ".join(f"{100 * value:{width}.2f}" for value in columns.values()),
    ]


def compare(config: CompareConfig) -> None:
    """Run ``prsnet compare``."""
    from prsnet.evaluation import evaluate as measure
    from prsnet.evaluation import training_root
    from prsnet.metrics.statistics import compare_reports
    from prsnet.rng import numpy_stream

    if config.out is not None:
        require_writable(config.out)
    data = config.data or training_root(config.first)
    first = measure(config.first, data, flip=config.flip, device=config.device)
    seed = first.facts["data"].get("split_seed")  # the same queries for both; a leak by it is said by the heading
    second = measure(config.second, data, flip=config.flip, device=config.device, split_seed=seed)
    found = compare_reports(first.report, second.report, generator=numpy_stream(0, "compare"), level=config.level)
    print("\n".join(dict.fromkeys([*heading(first), *heading(second)])))
    print(f"{found.queries} queries: {found.better} better, {found.worse} worse\n")
    for name, difference in found.differences.items():
        surely = "" if difference.low <= 0 <= difference.high else "  (the interval excludes 0)"
        before, after = (_figure(result, name) for result in (first, second))
        print(
            f"{name:>6} {100 * before:7.2f} -> {100 * after:6.2f}  difference {100 * difference.value:+.2f}, "
            f"{config.level:.0%} interval {100 * difference.low:+.2f} to {100 * difference.high:+.2f}{surely}"
        )
    if config.out is not None:
        write_json(config.out, {**found.to_dict(), "first": config.first, "second": config.second, "data": str(data)})
        print(f"report: {config.out}")


def _figure(result: Evaluation, name: str) -> float:
    report = result.report
    return {"map": report.map, "rank1": report.cmc[1], "minp": report.minp}[name]
