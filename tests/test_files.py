"""Files appear whole or not at all."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prsnet import InputError
from prsnet.files import replacing, require_writable, write_bytes, write_json, write_text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_replaces_another(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.txt"
    write_text(path, "grün")
    write_text(path, "ä")
    assert path.read_text(encoding="utf-8") == "ä"
    write_bytes(str(path), b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert names(path.parent) == ["a.txt"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        assert temporary.parent == path.parent and temporary != path
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_nobody_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    with replacing(path) as temporary:
        temporary.write_text("half")
        assert not path.exists()
        temporary.write_text("whole")
    assert path.read_text() == "whole"


def test_content_is_on_the_disk_before_it_has_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sync the file, rename it, sync the folder: in this order, or a power cut leaves an empty file."""
    events: list[str] = []
    sync, rename = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def renamed(self: Path, target: Any) -> Path:
        events.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    write_text(tmp_path / "a.txt", "x")
    assert events == ["file", "rename", "folder"]


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_permissions_are_those_of_any_new_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "a.txt", "x")
        (tmp_path / "b.txt").write_text("x")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a.txt", "b.txt")]
    assert modes[0] == modes[1] == 0o666 & ~mask


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    for place, words in (("file/a.txt", "no folder to write to"), ("folder", "is a folder")):
        for attempt in (require_writable, lambda path: write_text(path, "x")):
            with pytest.raises(InputError) as raised:
                attempt(tmp_path / place)
            assert str(tmp_path / place) in raised.value.message and words in raised.value.message
    assert names(tmp_path) == ["file", "folder"]
    require_writable(tmp_path / "new" / "deep" / "a.txt")
    require_writable("just-a-name.txt")
    assert names(tmp_path) == ["file", "folder"], "asking writes nothing"


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"a\.txt: cannot be written: No space left on device"):
        write_text(tmp_path / "a.txt", "x")
    assert names(tmp_path) == []


def test_json_of_what_reports_hold(tmp_path: Path) -> None:
    value = {"n": np.float64(0.5), "i": np.int64(3), "a": np.arange(3), "p": tmp_path, "t": (1, 2), "s": "grün"}
    write_json(tmp_path / "a.json", value)
    expected = {"n": 0.5, "i": 3, "a": [0, 1, 2], "p": str(tmp_path), "t": [1, 2], "s": "grün"}
    assert json.loads((tmp_path / "a.json").read_text()) == expected


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float64("nan"), {"a": {1, 2}}, object()])
def test_what_has_no_json_form_writes_nothing(tmp_path: Path, value: Any) -> None:
    with pytest.raises((ValueError, TypeError)):
        write_json(tmp_path / "a.json", {"x": value})
    assert names(tmp_path) == []
