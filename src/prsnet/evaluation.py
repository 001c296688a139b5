"""The protocol: a model and a dataset give a report (docs/method.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from prsnet.checkpoint import find_checkpoint, read_description
from prsnet.data.layouts import load_dataset
from prsnet.data.layouts.recognition import PLAIN
from prsnet.data.suitability import check_evaluation, require
from prsnet.embed import Embedder
from prsnet.errors import CheckpointError
from prsnet.measures import Measures, measure
from prsnet.types import Dataset, Embeddings, ImageRecord, RankReport


@dataclass(frozen=True)
class Evaluation:
    """What came out of :func:`evaluate`.

    Attributes:
        measures: the figures; ``report`` is the image-level ranking among them.
        query: embeddings of the query images.
        gallery: embeddings of the gallery images.
        facts: model, dataset, settings, and ``transductive``: why the figures are not those of unseen people, or "".
        warnings: lines about the dataset that a reader of the figures should know.
    """

    measures: Measures
    query: Embeddings
    gallery: Embeddings
    facts: Mapping[str, Any]
    warnings: Sequence[str] = field(default_factory=tuple)

    @property
    def report(self) -> RankReport:
        """The image-level ranking by cosine."""
        return self.measures.report

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form: the keys of Measures.to_dict, ``facts``, ``warnings``, and the query's paths."""
        plain = self.measures.to_dict()
        paths = self.query.paths
        plain["per_query"]["path"] = [paths[row] for row in plain["per_query"]["row"]] if paths else []
        return {**plain, "facts": dict(self.facts), "warnings": list(self.warnings)}


def evaluate(
    run: Path | str,
    data: Path | str,
    *,
    ranks: Sequence[int] = (1, 5, 10, 20),
    flip: bool = False,
    camera_filter: bool = True,
    rerank: bool = False,
    centroids: bool = False,
    verification: bool = False,
    layout: str = "auto",
    split_seed: int | None = None,
    batch_size: int = 64,
    workers: int = 2,
    device: str = "auto",
) -> Evaluation:
    """Measure a model on a dataset.

    Args:
        run: run folder of ``prsnet train`` (its best checkpoint), or a checkpoint file.
        data: dataset folder or CSV file; another than the training's measures generalisation across datasets.
        ranks: ranks of the CMC.
        flip: average each embedding with that of the mirrored image.
        camera_filter: leave out gallery images of the query's own identity and camera.
        rerank, centroids, verification: what else to measure, see :func:`prsnet.measures.measure`.
        layout: as in :func:`prsnet.data.layouts.load_dataset`.
        split_seed: of the split into halves, for layouts without one; None takes the seed that the model was trained
            with when it was trained on this dataset, else 0.
        batch_size: images per forward pass.
        workers: threads that decode.
        device: auto, cpu, cuda or cuda:N.

    Raises:
        CheckpointError: no usable model. DataError: no usable dataset, or no query that can be counted.
    """
    embedder = Embedder.from_checkpoint(run, device=device)
    seed = trained_split(embedder.facts, data) if split_seed is None else split_seed
    dataset = load_dataset(data, layout=layout, seed=seed)
    warnings = require(check_evaluation(dataset.query, dataset.gallery, camera_filter=camera_filter))
    query, gallery = embed_both(embedder, dataset, flip=flip, batch_size=batch_size, workers=workers)
    measures = measure(
        query,
        gallery,
        ranks=ranks,
        camera_filter=camera_filter,
        rerank=rerank,
        centroids=centroids,
        verification=verification,
    )
    facts = {
        "model": str(find_checkpoint(run)),
        "dataset": dataset.name,
        "data": dict(dataset.facts),
        "flip": flip,
        "transductive": transductive_reason(embedder.facts, dataset),
        "architecture": embedder.facts.get("architecture", {}),
        "provenance": embedder.facts.get("provenance", {}),
    }
    return Evaluation(measures, query, gallery, facts, warnings)


def embed_both(
    embedder: Embedder, dataset: Dataset, *, flip: bool = False, batch_size: int = 64, workers: int = 2
) -> tuple[Embeddings, Embeddings]:
    """Return the embeddings of query and gallery; an image that is in both is read and computed once."""
    unique: dict[tuple[Path, int | None, int | None], int] = {}
    rows = [
        [unique.setdefault((record.path, record.pid, record.camid), len(unique)) for record in records]
        for records in (dataset.query, dataset.gallery)
    ]
    records = [ImageRecord(*key) for key in unique]
    with tqdm(total=len(records), unit="image", desc="embedding", disable=None, leave=False) as bar:
        everything = embedder.embed(records, flip=flip, batch_size=batch_size, workers=workers, progress=bar.update)
    return everything.select(rows[0]), everything.select(rows[1])


def trained_split(facts: Mapping[str, Any], data: Path | str) -> int:
    """Return the seed of the split that a model was trained with if it was trained on ``data``, else 0."""
    for _, trained_on in _training_data(facts):
        same = trained_on.get("root") and Path(str(trained_on["root"])).resolve() == Path(data).resolve()
        if same and isinstance(trained_on.get("split_seed"), int):
            return int(trained_on["split_seed"])
    return 0


def training_root(run: Path | str) -> str:
    """Return the folder that a model was trained on.

    Raises:
        CheckpointError: the model does not say.
    """
    file = find_checkpoint(run)
    for _, trained_on in _training_data(read_description(file)):
        if trained_on.get("root"):
            return str(trained_on["root"])
    raise CheckpointError(f"{file}: does not say what it was trained on", hint="give the dataset with --data")


def transductive_reason(facts: Mapping[str, Any], dataset: Dataset) -> str:
    """Return why a model has seen test images of ``dataset``, or "" when nothing says so (the leak guard).

    Seen means: a pool that it was pre-trained on held query or gallery images of it, by the pool's own account or
    because the one folder lies in the other; or one of its trainings split the same identities by another seed.
    """
    for verb, trained_on in _training_data(facts):
        same = trained_on.get("name") == dataset.name
        pool = _mapping(trained_on.get("pool"))
        # A pool of several sources has a name of its own, and lists the benchmarks whose test images are in it.
        if dataset.name in _list(pool.get("test_images_of")) or (same and pool.get("test_images")):
            return f"transductive: {verb} saw {pool.get('test_images')} query and gallery images of {dataset.name}"
        if dataset.name not in _list(pool.get("kept_out")):
            for source in (trained_on, *_list(trained_on.get("sources"))):
                if _holds(_mapping(source), dataset):
                    return f"transductive: {verb} saw images of {source['root']}, where those of {dataset.name} lie"
        seeds = trained_on.get("split_seed"), dataset.facts.get("split_seed")
        if same and None not in seeds and seeds[0] != seeds[1]:
            return f"transductive: {verb} split the identities of {dataset.name} by seed {seeds[0]}, not {seeds[1]}"
    return ""


def _holds(source: Mapping[str, Any], dataset: Dataset) -> bool:
    """Return whether test images of ``dataset`` are in a source of pre-training images, judged by where both lie.

    A plain tree of images holds whatever lies below it. The other way round, a folder inside the dataset counts when
    it is known for test images, such as ``query/``.
    """
    places = source.get("root"), dataset.facts.get("root")
    if not all(isinstance(place, str) and place for place in places):
        return False
    theirs, ours = (Path(str(place)).resolve() for place in places)
    if source.get("layout") == PLAIN and (ours == theirs or theirs in ours.parents):
        return True
    return ours in theirs.parents and bool(_mapping(source.get("pool")).get("test_images"))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (list, tuple)) else ()


def _training_data(facts: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (verb, facts of its data) of a model's training and of the trainings that it started from."""
    provenance: Any = facts.get("provenance")
    for _ in range(100):  # a stranger's file may not send us round in circles
        if not isinstance(provenance, Mapping):
            return
        data = provenance.get("data")
        if isinstance(data, Mapping):
            verb = str(provenance.get("verb", "training"))
            yield verb, data
            if "pool" not in data:  # a combination: each source was split by a seed of its own; a pool has its guard
                sources = data.get("sources")
                yield from ((verb, s) for s in (sources if isinstance(sources, list) else ()) if isinstance(s, Mapping))
        initialisation = provenance.get("initialisation")
        provenance = initialisation.get("provenance") if isinstance(initialisation, Mapping) else None
