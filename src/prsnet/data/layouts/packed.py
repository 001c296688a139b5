"""A packed dataset: records, labels and facts as they were when it was packed."""

from __future__ import annotations

from pathlib import Path

from prsnet.data.layouts.declaration import Layout
from prsnet.data.pack import read_packed
from prsnet.data.pack_file import SUFFIX
from prsnet.data.splits import Parts
from prsnet.errors import DataError


def load_packed(path: Path, seed: int) -> Parts:
    """Return the parts of a packed dataset; what it was packed from is among the facts.

    Raises:
        DataError: damaged, or packed with another split of the identities than the seed asks for.
    """
    name, parts, facts = read_packed(path)
    packed_seed = facts.get("split_seed", seed)
    if packed_seed != seed:
        raise DataError(
            f"{path}: packed with split seed {packed_seed}, asked for {seed}",
            hint=f"use --split-seed {packed_seed}, or pack it again",
        )
    origin = {"packed_from": facts.pop("root", ""), "layout_when_packed": facts.pop("layout", ""), "name": name}
    facts.pop("counts", None)
    train, query, gallery = (tuple(parts[part]) for part in ("train", "query", "gallery"))
    return Parts(train, query, gallery, {**facts, **origin})


PACK = Layout(
    name="pack",
    expects="a dataset packed by `prsnet data pack`",
    fits=lambda path: path.suffix == SUFFIX and path.is_file(),
    load=load_packed,
)
