"""Checkpoints: one safetensors file each, with a JSON description in its header.

A file holds tensors and text, nothing that could run. The description says which network the weights belong to, how
images are prepared for it and where it comes from, so that a file alone is enough to use a model. One file, because
one rename is atomic and two are not; a readable copy of the description is written beside it for people.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from prsnet.errors import CheckpointError
from prsnet.files import replacing, write_json

FORMAT_VERSION = 1
"""Raised when a file written by this version could not be read by the last one."""

_HEADER_KEY = "prsnet"
_MAX_DESCRIPTION = 4 * 2**20
_PICKLE_SUFFIXES = {".pt", ".pth", ".pkl", ".bin", ".ckpt", ".tar"}


def save_checkpoint(
    path: Path | str, tensors: Mapping[str, torch.Tensor], description: Mapping[str, Any], *, sidecar: bool = True
) -> None:
    """Write tensors and their description to ``path`` atomically.

    Args:
        path: a ``.safetensors`` file.
        tensors: names to tensors on any device; written contiguous, shared memory is written once per name.
        description: JSON-able facts; ``format_version`` is added.
        sidecar: also write the description as ``<stem>.json`` for people to read.
    """
    described = {"format_version": FORMAT_VERSION, **description}
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    text = json.dumps(described, allow_nan=False)
    with replacing(path) as temporary:
        try:
            save_file(plain, str(temporary), metadata={_HEADER_KEY: text})
        except SafetensorError as error:  # how this library tells of a full disk
            raise OSError(_one_line(error)) from error
    if sidecar:
        write_json(Path(path).with_suffix(".json"), described)


def load_checkpoint(path: Path | str, *, kind: str | None = None) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read tensors and description of a checkpoint, to the CPU.

    Args:
        path: a file written by :func:`save_checkpoint`.
        kind: if given, the description's ``kind`` must be this, e.g. ``"reid"``.

    Raises:
        CheckpointError: missing, not safetensors (a pickle is named as such and never opened), without a
            description, of a newer format, of another kind, or with weights that are not finite.
    """
    file = Path(path)
    description = read_description(file)
    if kind is not None and description.get("kind") != kind:
        raise CheckpointError(
            f"{file}: holds a {description.get('kind')!r} model, expected {kind!r}",
            hint="`pretrain` writes 'autoencoder' models, `train` writes 'reid' models",
        )
    try:
        with safe_open(str(file), framework="pt") as reader:
            tensors = {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{file}: broken weights: {_one_line(error)}", hint="copy the file again") from error
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{file}: weights {name!r} are not finite", hint="use an earlier checkpoint")
    return tensors, description


def read_description(path: Path | str) -> dict[str, Any]:
    """Read the description of a checkpoint without its weights; raises as :func:`load_checkpoint`."""
    file = Path(path)
    _refuse_foreign(file)
    try:
        with safe_open(str(file), framework="pt") as reader:
            text = (reader.metadata() or {}).get(_HEADER_KEY)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"{file}: not a safetensors file: {_one_line(error)}", hint="give a checkpoint written by prsnet"
        ) from error
    if text is None:
        raise CheckpointError(
            f"{file}: no prsnet description in the file's header, so the architecture is unknown",
            hint="give a checkpoint written by prsnet",
        )
    try:
        description = json.loads(text) if len(text) <= _MAX_DESCRIPTION else None
    except (json.JSONDecodeError, RecursionError):
        description = None
    if not isinstance(description, dict):
        raise CheckpointError(f"{file}: the description in the header is not a JSON object of at most 4 MiB")
    version = description.get("format_version")
    if type(version) is not int or not 1 <= version <= FORMAT_VERSION:  # True is no version
        raise CheckpointError(
            f"{file}: format version {version!r}, this prsnet reads 1 to {FORMAT_VERSION}", hint="update prsnet"
        )
    return description


def find_checkpoint(run: Path | str) -> Path:
    """Return the checkpoint file that a user means by ``run``: the file itself, or a run folder's best, else its last.

    Raises:
        CheckpointError: nothing there.
    """
    path = Path(run)
    if path.is_dir():
        for name in ("checkpoints/best.safetensors", "checkpoints/last.safetensors", "model.safetensors"):
            if (path / name).is_file():
                return path / name
        raise CheckpointError(
            f"{path}: no checkpoint in this folder, expected checkpoints/best.safetensors",
            hint="give a run folder of `prsnet train` or `prsnet pretrain`, or a .safetensors file",
        )
    if not path.exists():
        raise CheckpointError(f"{path}: no such run folder or checkpoint file", hint="check the path")
    return path


def _refuse_foreign(file: Path) -> None:
    if not file.is_file():
        raise CheckpointError(f"{file}: no such checkpoint file", hint="check the path")
    with file.open("rb") as stream:
        head = stream.read(10)
    if not head:
        raise CheckpointError(f"{file}: the file is empty", hint="copy the file again")
    if head[8:9] == b"{":  # safetensors: the header's length in 8 bytes, which may be any, then JSON
        return
    if head[:1] == b"\x80" or head[:2] == b"PK" or file.suffix.lower() in _PICKLE_SUFFIXES:
        raise CheckpointError(
            f"{file}: looks like a pickle, which could run code; expected safetensors",
            hint="convert it with safetensors.torch.save_file in a place where you trust the file",
        )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
