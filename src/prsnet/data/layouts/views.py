"""Datasets of a few views that name no split: people are divided by the seed, or by a rule that their papers use."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from prsnet.data.layouts.declaration import Layout, direct_images, inner
from prsnet.data.layouts.folders import number_cameras
from prsnet.data.layouts.names import fits_flat, load_flat, parsed_images
from prsnet.data.splits import Parts, by_identity, shuffled_identities
from prsnet.errors import DataError
from prsnet.types import DISTRACTOR_PID, ImageRecord

_VIPER = re.compile(r"([0-9]{3})_[0-9]{2,3}\.bmp", re.IGNORECASE)
_GRID = re.compile(r"([0-9]{4})_([0-9]{1,2})_[0-9_]+\.jpe?g", re.IGNORECASE)
_PRID = re.compile(r"person_([0-9]{4})\.png", re.IGNORECASE)
_CUHK01 = re.compile(r"([0-9]{4})00([1-4])\.png", re.IGNORECASE)
_CUHK02 = re.compile(r"([0-9]{1,4})_[0-9]+\.png", re.IGNORECASE)
_ILIDS = re.compile(r"([0-9]{4})[0-9]{3}\.jpg", re.IGNORECASE)
_PES3D = re.compile(r"([0-9]{1,4})_([0-9B_]+)_FRAME_[0-9]+_RGB\.bmp", re.IGNORECASE)
_PRID_SHARED = 200
"""Only the people up to this number are the same in both cameras of PRID 2011."""


def two_view_parts(
    probe: Sequence[ImageRecord], gallery: Sequence[ImageRecord], *, seed: int, train: int | None = None
) -> Parts:
    """Divide people who are seen in two views: some train with all their images, the others are searched for.

    Queries are the probe images, and the gallery the gallery images, of the people who do not train. People whom only
    the gallery view shows are distractors.

    Args:
        probe: labelled images of one view.
        gallery: labelled images of the other, distractors (pid 0) allowed.
        seed: decides who trains.
        train: how many train; half when not given (the smaller one, if odd).

    Raises:
        DataError: fewer than two people are seen in both views.
    """
    both = sorted(by_identity(probe).keys() & by_identity(gallery).keys())
    if len(both) < 2:
        raise DataError(
            f"{len(both)} people in both views, expected at least 2 to split into train and test",
            hint="are all folders of the dataset there?",
        )
    order = shuffled_identities(both, seed=seed, purpose="identity-halves")
    trained, known = set(order[: len(order) // 2 if train is None else train]), set(both)
    test = [record for record in gallery if record.pid not in trained]
    facts = {
        "split": f"{len(trained)} of {len(both)} people train, drawn by the seed; of the others one view is the query "
        "and the other the gallery",
        "split_seed": seed,
    }
    return Parts(
        tuple(record for record in (*probe, *gallery) if record.pid in trained),
        tuple(record for record in probe if record.pid in known - trained),
        tuple(r if r.pid in known else ImageRecord(r.path, DISTRACTOR_PID, r.camid) for r in test),
        facts,
    )


def _number(name: str, pattern: re.Pattern[str], camid: int | None, offset: int = 0) -> tuple[int, int | None] | None:
    match = pattern.fullmatch(name)
    return (int(match[1]) + offset, camid) if match else None


def _holds(folder: Path | None, parse: Callable[[str], object]) -> bool:
    return folder is not None and any(parse(image.name) for image in direct_images(folder))


def _fits_pair(folder: Path, *, pattern: re.Pattern[str], names: tuple[str, str]) -> bool:
    there = inner(folder)
    return all(_holds(there.get(name), pattern.fullmatch) for name in names)


def load_viper(folder: Path, seed: int) -> Parts:
    """Return VIPeR split in halves by the seed; the person of ``000_45.bmp`` is pid 1."""
    views = [
        parsed_images(inner(folder)[name], partial(_number, pattern=_VIPER, camid=camid, offset=1), "NNN_ANGLE.bmp")
        for camid, name in ((1, "cam_a"), (2, "cam_b"))
    ]
    return two_view_parts(*views, seed=seed)


def load_prid(folder: Path, seed: int) -> Parts:
    """Return PRID 2011, single shot: 100 of the 200 shared people train; the rest of camera B are distractors."""
    views = [
        parsed_images(inner(folder)[name], partial(_number, pattern=_PRID, camid=camid), "person_NNNN.png")
        for camid, name in ((1, "cam_a"), (2, "cam_b"))
    ]
    probe = [record for record in views[0] if (record.pid or 0) <= _PRID_SHARED]
    alone = [r if (r.pid or 0) <= _PRID_SHARED else ImageRecord(r.path, DISTRACTOR_PID, r.camid) for r in views[1]]
    return two_view_parts(probe, alone, seed=seed)


def _grid(name: str) -> tuple[int, int | None] | None:
    match = _GRID.fullmatch(name)
    return (int(match[1]), int(match[2])) if match else None


def load_grid(folder: Path, seed: int) -> Parts:
    """Return QMUL GRID: half of the 250 pairs train, by the seed; the images of ``0000`` are distractors."""
    probe, gallery = (parsed_images(inner(folder)[name], _grid, "NNNN_CAM_....jpeg") for name in ("probe", "gallery"))
    return two_view_parts(probe, gallery, seed=seed)


def _cuhk01(name: str) -> tuple[int, int | None] | None:
    match = _CUHK01.fullmatch(name)
    return (int(match[1]), (int(match[2]) + 1) // 2) if match else None


def load_cuhk01(folder: Path, seed: int) -> Parts:
    """Return CUHK01: 485 of 971 people train, by the seed; images 1 and 2 are one camera's, 3 and 4 the other's."""
    records = parsed_images(folder, _cuhk01, "NNNN00I.png")
    views = [[record for record in records if record.camid == camid] for camid in (1, 2)]
    return two_view_parts(*views, seed=seed)


def _cuhk02_views(folder: Path) -> dict[tuple[int, int], Path]:
    """Return (pair of cameras 1-5, view 1 or 2) -> folder."""
    found = {}
    for pair in range(1, 6):
        views = inner(inner(folder).get(f"p{pair}", folder / "?"))
        found.update({(pair, view): views[f"cam{view}"] for view in (1, 2) if f"cam{view}" in views})
    return found


def load_cuhk02(folder: Path, seed: int) -> Parts:
    """Return CUHK02: the camera pairs P1 to P4 train, P5 is the test. Each pair has its own people: pid PAIR0NNNN."""
    parts: dict[str, list[ImageRecord]] = {"train": [], "query": [], "gallery": []}
    for (pair, view), place in _cuhk02_views(folder).items():
        parse = partial(_number, pattern=_CUHK02, camid=2 * pair - 2 + view, offset=10_000 * pair)
        part = "train" if pair < 5 else "query" if view == 1 else "gallery"
        parts[part] += parsed_images(place, parse, "PID_N.png")
    facts = {"split": "camera pairs P1 to P4 train; in P5, camera 1 is the query and camera 2 the gallery"}
    return Parts(tuple(parts["train"]), tuple(parts["query"]), tuple(parts["gallery"]), facts)


def _ilids(name: str) -> tuple[int, int | None] | None:
    return _number(name, _ILIDS, None)


def _pes3d_folder(folder: Path) -> Path:
    return inner(folder).get("rgb", folder)


def load_pes3d(folder: Path, seed: int) -> Parts:
    """Return 3DPeS split in halves by the seed; cameras are numbered by their names in the files."""
    place = _pes3d_folder(folder)
    matches = [_PES3D.fullmatch(image.name) for image in direct_images(place)]
    cameras, _ = number_cameras(match[2] for match in matches if match)

    def parse(name: str) -> tuple[int, int | None] | None:
        match = _PES3D.fullmatch(name)
        return (int(match[1]), cameras[match[2]]) if match else None

    parts = load_flat(place, seed, parse=parse, scheme="PID_CAM_FRAME_N_RGB.bmp")
    parts.facts["camera_names"] = cameras
    return parts


VIPER = Layout(
    name="viper",
    expects="cam_a/ and cam_b/ with images named NNN_ANGLE.bmp (VIPeR)",
    fits=partial(_fits_pair, pattern=_VIPER, names=("cam_a", "cam_b")),
    load=load_viper,
    published={"images": 1264, "identities": 632, "train_identities": 316, "query_images": 316, "gallery_images": 316},
    citation="Gray, Tao, Viewpoint Invariant Pedestrian Recognition with an Ensemble of Localized Features, ECCV 2008",
    note="the mean over 10 splits is usual: split seeds 0 to 9",
)

GRID = Layout(
    name="grid",
    expects="probe/ and gallery/ with images named NNNN_CAM_... (QMUL GRID)",
    fits=partial(_fits_pair, pattern=_GRID, names=("probe", "gallery")),
    load=load_grid,
    published={"images": 1275, "train_identities": 125, "query_images": 125, "gallery_images": 900, "cameras": 8},
    citation="Loy, Xiang, Gong, Multi-Camera Activity Correlation Analysis, CVPR 2009",
    note="people are divided by the seed, not by the 10 partitions of its .mat file",
)

PRID2011 = Layout(
    name="prid2011",
    expects="single_shot/ with cam_a/ and cam_b/ of images named person_NNNN.png (PRID 2011)",
    fits=lambda folder: _fits_pair(_prid_folder(folder), pattern=_PRID, names=("cam_a", "cam_b")),
    load=lambda folder, seed: load_prid(_prid_folder(folder), seed),
    published={"train_identities": 100, "train_images": 200, "query_images": 100, "gallery_images": 649, "cameras": 2},
    citation="Hirzer et al., Person Re-identification by Descriptive and Discriminative Classification, SCIA 2011",
)


def _prid_folder(folder: Path) -> Path:
    return inner(folder).get("single_shot", folder)


CUHK01 = Layout(
    name="cuhk01",
    expects="images named NNNN00I.png (CUHK01's campus/)",
    fits=partial(fits_flat, parse=_cuhk01),
    load=load_cuhk01,
    published={"images": 3884, "identities": 971, "train_identities": 485, "cameras": 2},
    citation="Li, Zhao, Wang, Human Reidentification with Transferred Metric Learning, ACCV 2012",
)

CUHK02 = Layout(
    name="cuhk02",
    expects="P1/ to P5/ with cam1/ and cam2/ (CUHK02)",
    fits=lambda folder: any(
        _holds(place, _CUHK02.fullmatch) for (pair, _), place in _cuhk02_views(folder).items() if pair == 5
    ),
    load=load_cuhk02,
    published={"images": 7264, "identities": 1816, "train_identities": 1577, "query_identities": 239, "cameras": 10},
    citation="Li, Wang, Locally Aligned Feature Transforms across Views, CVPR 2013",
)

ILIDS = Layout(
    name="ilids",
    expects="Persons/ with images named NNNNIII.jpg (i-LIDS)",
    # Seven digits are how half of the world names its frames: the folder's name must agree.
    fits=lambda folder: folder.resolve().name.lower() == "persons" and fits_flat(folder, parse=_ilids),
    load=partial(load_flat, parse=_ilids, scheme="NNNNIII.jpg (person, image)"),
    published={"images": 476, "identities": 119},
    citation="Zheng, Gong, Xiang, Associating Groups of People, BMVC 2009",
    note="names tell no camera, so matches within a camera count",
)

PES3D = Layout(
    name="3dpes",
    expects="images named PID_CAM_FRAME_N_RGB.bmp (3DPeS' RGB/)",
    fits=lambda folder: fits_flat(_pes3d_folder(folder), parse=lambda name: _number(name, _PES3D, None)),
    load=load_pes3d,
    published={"images": 1011, "identities": 192},
    citation="Baltieri, Vezzani, Cucchiara, 3DPes: 3D People Dataset for Surveillance and Forensics, J-HGBU 2011",
)
