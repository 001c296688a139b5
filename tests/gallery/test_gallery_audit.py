"""The log: one line for every search, change and deletion, before it takes effect."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prsnet.errors import InputError
from prsnet.gallery import Gallery, NewSighting, SightingFilter
from prsnet.gallery.audit import MAX_LISTED, AuditLog, current_user
from prsnet.types import ModelIdentity

MODEL = ModelIdentity("9a" * 32, "test", 4)
EAST, NORTH = np.eye(2, 4, dtype=np.float32)


def entries(folder: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in entry.items() if k != "time"} for entry in AuditLog(folder / "audit.jsonl").entries()]


def test_every_search_and_deletion_is_in_the_log(tmp_path: Path) -> None:
    folder = tmp_path / "g"
    with Gallery.create(folder, MODEL, who="ann") as gallery:
        a, b = gallery.add(np.stack([EAST, NORTH]), [NewSighting(pid=1), NewSighting(pid=2)], model=MODEL)
        gallery.search(EAST[None], model=MODEL, threshold=0.5, where=SightingFilter(pids=(1, 2)), who="token 7")
        gallery.search_person(like=[a], top_k=3)
        gallery.update([b], pid=3)
        gallery.delete(SightingFilter(ids=(a, "99")))
        gallery.set_retention(5)
    assert entries(folder) == [
        {"who": "token 7", "action": "search", "queries": 1, "top_k": 10, "threshold": 0.5, "one_per": "none",
         "filter": {"pids": [1, 2]}, "hits": 1},
        {"who": "ann", "action": "search", "shots": 1, "top_k": 3, "threshold": None, "one_per": "none", "like": [a],
         "filter": {}, "hits": 1},
        {"who": "ann", "action": "update", "ids": [b], "changed": ["pid"], "count": 1},
        {"who": "ann", "action": "delete", "filter": {"ids": [a, "99"]}, "count": 1},
        {"who": "ann", "action": "retention", "days": 5, "before": None},
    ]  # fmt: skip
    for line in (folder / "audit.jsonl").read_text().splitlines():
        assert json.loads(line)["time"].endswith("+00:00")
    assert stat.S_IMODE((folder / "audit.jsonl").stat().st_mode) == 0o600


def test_without_its_log_nothing_is_found_or_deleted(tmp_path: Path) -> None:
    folder = tmp_path / "g"
    with Gallery.create(folder, MODEL) as gallery:
        (a,) = gallery.add(EAST[None], [NewSighting(pid=1)], model=MODEL)
        (folder / "audit.jsonl").mkdir()
        for attempt in (
            lambda: gallery.search(EAST[None], model=MODEL),
            lambda: gallery.delete(SightingFilter(pids=(1,))),
            lambda: gallery.update([a], pid=2),
            lambda: gallery.set_retention(1),
        ):
            with pytest.raises(InputError, match="audit log cannot be written"):
                attempt()
        assert gallery.get(a).pid == 1
        assert gallery.retention_days is None


def test_a_line_cut_off_spoils_no_other(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    assert list(log.entries()) == []
    log.append("one", who="x")
    with log.path.open("ab") as file:
        file.write(b'{"time": "2024')
    log.append("two", who="x")
    log.append("three", who="x")
    assert [entry["action"] for entry in log.entries()] == ["one", "two", "three"]


def test_long_lists_are_cut_and_counted(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.append("delete", who="x", filter={"ids": [str(n) for n in range(5000)]})
    (entry,) = log.entries()
    assert len(entry["filter"]["ids"]) == MAX_LISTED
    assert entry["filter"]["ids_count"] == 5000


def test_line_breaks_in_names_stay_in_their_line(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl")
    log.append("search", who='mallory"}\n{"who": "ann')
    assert len(log.path.read_text().splitlines()) == 1
    assert next(log.entries())["who"].startswith("mallory")


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def unnamed() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr("getpass.getuser", unnamed)
    assert current_user() == f"uid {os.getuid()}"
