"""Checkpoints: what goes in comes out, and nothing that a stranger wrote can do more than be refused."""

from __future__ import annotations

import json
import os
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from prsnet import CheckpointError, InputError
from prsnet.checkpoint import FORMAT_VERSION, find_checkpoint, load_checkpoint, read_description, save_checkpoint

KINDS = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool]


def raw(header: bytes, content: bytes = b"") -> bytes:
    """Return a safetensors file as the format defines it: length, header, numbers."""
    return struct.pack("<Q", len(header)) + header + content


def described(text: str) -> bytes:
    """Return a file without tensors whose description is ``text``."""
    return raw(json.dumps({"__metadata__": {"prsnet": text}}).encode())


@settings(deadline=None, max_examples=30)
@given(
    shapes=st.lists(st.lists(st.integers(0, 4), max_size=3), min_size=1, max_size=4),
    kind=st.sampled_from(KINDS),
    facts=st.dictionaries(st.text(max_size=9), st.none() | st.booleans() | st.integers() | st.text(max_size=9)),
    seed=st.integers(0, 2**31),
)
def test_what_goes_in_comes_out(
    tmp_path_factory: pytest.TempPathFactory,
    shapes: list[list[int]],
    kind: torch.dtype,
    facts: dict[str, Any],
    seed: int,
) -> None:
    path = tmp_path_factory.mktemp("saved") / "a.safetensors"
    generator = torch.Generator().manual_seed(seed)
    tensors = {
        f"t{i}.weight": (torch.randn(shape, generator=generator) * 50).to(kind) for i, shape in enumerate(shapes)
    }
    given_facts = {**facts, "kind": "x"}
    given_facts.pop("format_version", None)
    save_checkpoint(path, tensors, given_facts)
    found, description = load_checkpoint(path, kind="x")
    assert description == {"format_version": FORMAT_VERSION, **given_facts}
    assert set(found) == set(tensors)
    for name, value in tensors.items():
        assert found[name].dtype == value.dtype and torch.equal(found[name], value)
    assert json.loads(path.with_suffix(".json").read_text()) == description


def test_shared_strided_and_trained_tensors(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4).requires_grad_()
    tensors = {"one": base, "same": base, "turned": base.t(), "part": base[:, 1:3]}
    save_checkpoint(tmp_path / "a.safetensors", tensors, {"kind": "x"}, sidecar=False)
    found, _ = load_checkpoint(tmp_path / "a.safetensors")
    assert all(torch.equal(found[name], value) for name, value in tensors.items())
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_others_can_read_our_weights(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "a.safetensors", {"w": torch.ones(2)}, {"kind": "x"})
    assert load_file(tmp_path / "a.safetensors")["w"].tolist() == [1, 1]


@pytest.mark.parametrize("size", range(240, 260))
def test_no_length_of_the_header_makes_a_file_a_pickle(tmp_path: Path, size: int) -> None:
    """The first byte of a file is the low byte of that length; 0x80 is how pickles begin, "PK" how archives do."""
    for target in (size, 0x4B50 - 8 + (size - 240)):
        path = tmp_path / "a.safetensors"
        description = {"kind": "x", "note": ""}
        save_checkpoint(path, {"w": torch.ones(2)}, description)
        short = struct.unpack("<Q", path.read_bytes()[:8])[0]
        note = "n" * max(0, target - short)
        save_checkpoint(path, {"w": torch.ones(2)}, {**description, "note": note})
        assert load_checkpoint(path)[1]["note"] == note


class Bomb:
    """Does on unpickling what a stranger wants."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("name", ["w.pth", "w.pkl", "w.bin", "w.safetensors", "w"])
@pytest.mark.parametrize("maker", ["torch", "torch-old", *[f"pickle-{p}" for p in range(pickle.HIGHEST_PROTOCOL + 1)]])
def test_a_pickle_is_never_opened(tmp_path: Path, name: str, maker: str) -> None:
    target, path = tmp_path / "exploded", tmp_path / name
    bomb = {"weight": Bomb(target)}
    if maker.startswith("torch"):
        torch.save(bomb, path, _use_new_zipfile_serialization=maker == "torch")
    else:
        path.write_bytes(pickle.dumps(bomb, protocol=int(maker[-1])))
    for load in (load_checkpoint, read_description):
        with pytest.raises(CheckpointError) as raised:
            load(path)
        assert str(path) in raised.value.message
        if maker not in ("pickle-0", "pickle-1"):  # plain text to the eye; refused as no safetensors
            assert "looks like a pickle" in raised.value.message
    assert not target.exists()


def test_the_payload_of_that_test_works(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "exploded")))  # noqa: S301 - proves that the test above can fail
    assert (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"hello world, this is a text", "not a safetensors file"),
        (b"\x00" * 200, "not a safetensors file"),
        (raw(b"{}"), "no prsnet description"),
        (raw(b'{"__metadata__":{"other":"x"}}'), "no prsnet description"),
        (described("{"), "not a JSON object"),
        (described("[1]"), "not a JSON object"),
        (described("null"), "not a JSON object"),
        (described("[" * 100_000), "not a JSON object"),
        (described('{"format_version": 1, "x": "' + "y" * (4 << 20) + '"}'), "at most 4 MiB"),
        (described("{}"), "format version None"),
        (described('{"format_version": 2}'), "format version 2"),
        (described('{"format_version": 0}'), "format version 0"),
        (described('{"format_version": -1}'), "format version -1"),
        (described('{"format_version": 1.0}'), "format version 1.0"),
        (described('{"format_version": true}'), "format version True"),
        (struct.pack("<Q", 2**63) + b"{}", "not a safetensors file"),
        (struct.pack("<Q", 50) + b"{", "not a safetensors file"),
        (raw(b'{"w":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}', b"\0" * 8), "not a safetensors file"),
        (raw(b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,99999999999]}}'), "not a safetensors file"),
        (raw(b'{"w":{"dtype":"X9","shape":[1],"data_offsets":[0,4]}}', b"\0" * 4), "not a safetensors file"),
    ],
)
def test_broken_files_are_refused_in_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    for load in (load_checkpoint, read_description):
        with pytest.raises(CheckpointError) as raised:
            load(path)
        message = raised.value.message
        assert message.startswith(f"{path}: ") and words in message
        assert "\n" not in message and len(message) < 500


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_damage_is_refused_or_harmless(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Cut anywhere, or with any few bytes changed: the same tensors, or a CheckpointError."""
    path = tmp_path_factory.mktemp("damaged") / "a.safetensors"
    save_checkpoint(path, {"w": torch.ones(3), "n": torch.arange(4)}, {"kind": "x"}, sidecar=False)
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    for _ in range(data.draw(st.integers(0, 3))):
        if content:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        found, _ = load_checkpoint(path)
    except CheckpointError:
        return
    assert all(isinstance(value, torch.Tensor) for value in found.values())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path, value: float, kind: torch.dtype) -> None:
    weights = torch.ones(3, 4, dtype=kind)
    weights[1, 2] = value
    save_checkpoint(tmp_path / "a.safetensors", {"fine": torch.ones(2), "head.weight": weights}, {"kind": "x"})
    with pytest.raises(CheckpointError, match=r"'head\.weight' are not finite"):
        load_checkpoint(tmp_path / "a.safetensors")
    assert read_description(tmp_path / "a.safetensors")["kind"] == "x"


@pytest.mark.parametrize("facts", [{"kind": "autoencoder"}, {}, {"kind": None}, {"kind": ["reid"]}])
def test_another_kind_is_refused(tmp_path: Path, facts: Mapping[str, Any]) -> None:
    save_checkpoint(tmp_path / "a.safetensors", {"w": torch.ones(1)}, facts)
    with pytest.raises(CheckpointError, match="expected 'reid'"):
        load_checkpoint(tmp_path / "a.safetensors", kind="reid")


def test_a_folder_is_no_checkpoint_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such checkpoint file"):
        load_checkpoint(tmp_path)


def test_descriptions_that_are_no_json_are_our_fault_and_leave_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, {"w": torch.ones(1)}, {"kind": "x"})
    before = path.read_bytes()
    for facts in ({"rate": float("nan")}, {"path": object()}):
        with pytest.raises((ValueError, TypeError)):
            save_checkpoint(path, {"w": torch.zeros(1)}, facts)
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.json", "a.safetensors"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("No space left")])
def test_a_failure_midway_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, {"w": torch.ones(1)}, {"kind": "x"}, sidecar=False)
    before = path.read_bytes()

    def half(tensors: Any, target: str, metadata: Any) -> None:
        Path(target).write_bytes(b"half")
        raise error

    monkeypatch.setattr("prsnet.checkpoint.save_file", half)
    with pytest.raises(InputError, match=r"a\.safetensors: cannot be written: No space left"):
        save_checkpoint(path, {"w": torch.zeros(1)}, {"kind": "x"})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_checkpoint_that_a_user_means(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints").mkdir(parents=True)
    with pytest.raises(CheckpointError, match="no checkpoint in this folder"):
        find_checkpoint(run)
    for name in ("model.safetensors", "checkpoints/last.safetensors", "checkpoints/best.safetensors"):
        save_file({"w": torch.ones(1)}, str(run / name))
        assert find_checkpoint(run) == run / name
    assert find_checkpoint(run / "model.safetensors") == run / "model.safetensors"
    with pytest.raises(CheckpointError, match="no such run folder or checkpoint file"):
        find_checkpoint(tmp_path / "gone")


def test_a_run_describes_itself(tiny_trained: Path) -> None:
    """What the docs promise of a fine-tuning checkpoint, and that the state of the run is no model."""
    described = read_description(tiny_trained / "checkpoints" / "best.safetensors")
    assert described["kind"] == "reid" and described["identities"] == 8 and described["license"] == ""
    assert described["architecture"]["num_classes"] == 8
    assert described["preprocessing"] == {
        "height": 64, "width": 32, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "resize": "bicubic"
    }  # fmt: skip
    provenance = described["provenance"]
    assert (provenance["verb"], provenance["images"], provenance["seed"]) == ("train", 45, 0)
    assert provenance["initialisation"]["kind"] == "autoencoder"
    assert described["trained"] == {"epochs": 2, "steps": 8, "of": 2}
    with pytest.raises(CheckpointError, match="'training-state' model, expected 'reid'"):
        load_checkpoint(tiny_trained / "checkpoints" / "state.safetensors", kind="reid")
