"""Embeddings on disk: a NumPy ``.npz`` archive that anybody can read, and that can do no harm to whoever reads it.

The archive holds ``vectors`` (N, D) float32, ``pids`` and ``camids`` (N,) int64, ``paths`` (N,) text (absent when there
are none) and ``description``, a JSON text: format version, the model's identity, and whatever the writer adds.
Nothing is pickled, and every size is checked from the headers before memory is taken.
"""

from __future__ import annotations

import io
import json
import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from prsnet.errors import DataError, PrsnetError
from prsnet.files import replacing
from prsnet.types import Embeddings, ModelIdentity

FORMAT = "prsnet-embeddings"
FORMAT_VERSION = 1
MAX_BYTES = 64 * 2**30
"""Most that an archive may unpack to."""
MAX_RATIO = 50
"""How many times larger than the archive its content may be: vectors hardly shrink, paths and JSON 10 to 30 times."""
MODEST_BYTES = 64 * 2**20
"""Content up to this size is read whatever the ratio."""
_MAX_DESCRIPTION = 2**20
_HINT = "write it with `prsnet embed`"


@dataclass(frozen=True)
class StoredEmbeddings:
    """What a file of embeddings holds.

    Attributes:
        embeddings: the vectors and what is known of each image.
        model: which model made them.
        facts: what else the writer noted.
    """

    embeddings: Embeddings
    model: ModelIdentity
    facts: Mapping[str, Any] = field(default_factory=dict)


def write_embeddings(
    path: Path | str, embeddings: Embeddings, model: ModelIdentity, facts: Mapping[str, Any] | None = None
) -> None:
    """Write embeddings to ``path`` atomically; NumPy's own ``load`` can read them.

    Raises:
        InputError: the place cannot be written. DataError: the vectors' width is not the model's.
    """
    if embeddings.width != model.width:
        raise DataError(f"{path}: vectors of {embeddings.width} numbers, expected {model.width} of model {model}")
    described = {"format": FORMAT, "format_version": FORMAT_VERSION, "model": asdict(model), "facts": dict(facts or {})}
    arrays: dict[str, Any] = {
        "vectors": embeddings.numpy(),
        "pids": embeddings.pids,
        "camids": embeddings.camids,
        "description": np.array(json.dumps(described, allow_nan=False)),
    }
    if embeddings.paths:
        arrays["paths"] = np.array([printable(name) for name in embeddings.paths])
    with replacing(path) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def read_embeddings(path: Path | str) -> StoredEmbeddings:
    """Read what :func:`write_embeddings` wrote, or what anybody else did in the same form.

    Raises:
        DataError: missing, not such an archive, sizes that do not fit together, pickled objects, vectors that are not
            finite; the message names the file.
    """
    file = Path(path)
    try:
        arrays = read_npz(file)
        for name in ("vectors", "pids", "camids", "description"):
            if name not in arrays:
                raise DataError(f"no array {name!r} in the archive", hint=_HINT)
        described = _described(arrays["description"])
        model = identity_from(described.get("model"))
        embeddings = _embeddings(arrays, model)
    except PrsnetError as error:
        raise DataError(f"{file}: {error.message}", hint=error.hint) from error
    facts = described.get("facts")
    return StoredEmbeddings(embeddings, model, facts if isinstance(facts, dict) else {})


def identity_from(value: Any) -> ModelIdentity:
    """Return the identity that a JSON object describes; raises DataError where it describes none."""
    if not isinstance(value, dict) or set(value) != {"fingerprint", "name", "width"}:
        raise DataError("names no model: expected fingerprint, name and width", hint=_HINT)
    fingerprint, name, width = value["fingerprint"], value["name"], value["width"]
    texts = isinstance(fingerprint, str) and isinstance(name, str)
    if not texts or not isinstance(width, int) or isinstance(width, bool) or len(name) > 200:
        raise DataError("names no model: fingerprint and name must be texts, width a whole number", hint=_HINT)
    return ModelIdentity(fingerprint, name, width)


def printable(text: str) -> str:
    """Return ``text`` as it can be stored: bytes of a file name that are no UTF-8, and NUL, become escapes."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def read_npz(source: Path | IO[bytes], *, max_bytes: int = MAX_BYTES) -> dict[str, npt.NDArray[Any]]:
    """Return the arrays of an ``.npz`` archive of numbers and texts.

    Args:
        source: a file, or its opened bytes.
        max_bytes: most that all arrays together may take, judged by their headers.

    Raises:
        DataError: not such an archive; a member that is no plain array, is larger than its file says, or needs pickle.
    """
    try:
        with source.open("rb") if isinstance(source, Path) else nullcontext(source) as stream:
            packed = stream.seek(0, os.SEEK_END)
            with zipfile.ZipFile(stream) as archive:
                refuse_bomb(archive, packed, max_bytes)
                members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
                return {member.filename[:-4]: _read_array(archive, member) for member in members}
    except FileNotFoundError as error:
        raise DataError("no such file", hint="check the path") from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", hint="check its permissions") from error
    except (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"not an .npz archive: {_one_line(error)}", hint=_HINT) from error


def refuse_bomb(archive: zipfile.ZipFile, packed: int, max_bytes: int) -> None:
    """Raise DataError where an archive of ``packed`` bytes claims to unpack to far more than such data ever do."""
    total = sum(member.file_size for member in archive.infolist())
    allowed = min(max_bytes, max(MODEST_BYTES, MAX_RATIO * packed))
    if total > allowed:
        raise DataError(f"claims {total} bytes unpacked from {packed}, expected at most {allowed}", hint=_HINT)


def _read_array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> npt.NDArray[Any]:
    """Read one member whose header must account for each of its bytes: nothing larger is ever allocated."""
    with archive.open(member) as stream:
        head = stream.read(min(member.file_size, 64 * 1024))
        place = io.BytesIO(head)
        try:
            version = np.lib.format.read_magic(place)
            reader = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
            shape, fortran, dtype = reader(place, max_header_size=10_000)
        except (ValueError, KeyError, SyntaxError, RecursionError, MemoryError) as error:
            raise DataError(f"{member.filename!r:.80} is no plain array: {_one_line(error)}", hint=_HINT) from error
        if (
            dtype.kind not in "fiuU"
            or not dtype.itemsize
            or fortran
            or any(size < 0 for size in shape)
            or len(shape) > 2
        ):
            raise DataError(f"{member.filename!r:.80}: expected numbers or text in rows, got {dtype}", hint=_HINT)
        start, size = place.tell(), math.prod(shape) * dtype.itemsize
        if start + size != member.file_size:
            raise DataError(f"{member.filename!r:.80}: {shape} {dtype} does not fit its {member.file_size} bytes")
        data = bytearray(size)
        data[: len(head) - start] = head[start:]
        _read_into(stream, memoryview(data)[len(head) - start :])
    array = np.frombuffer(data, dtype=dtype).reshape(shape)
    points = np.frombuffer(data, dtype=np.dtype("u4").newbyteorder(dtype.byteorder)) if dtype.kind == "U" else ()
    if len(points) and np.max(points) > 0x10FFFF:
        raise DataError(f"{member.filename!r:.80}: holds characters that do not exist", hint=_HINT)
    return array


def _read_into(stream: IO[bytes], rest: memoryview) -> None:
    while len(rest):
        piece = stream.read(min(len(rest), 2**22))
        if not piece:
            raise EOFError("the archive ends too early")
        rest[: len(piece)] = piece
        rest = rest[len(piece) :]
    stream.read(1)  # Reaching the end is what makes zipfile compare the checksum.


def _described(array: npt.NDArray[Any]) -> dict[str, Any]:
    if array.dtype.kind != "U" or array.shape != () or array.nbytes > 4 * _MAX_DESCRIPTION:
        raise DataError("the description is no text of at most 1 MiB", hint=_HINT)
    try:
        described = json.loads(str(array))
    except (ValueError, RecursionError) as error:
        raise DataError(f"the description is not JSON: {_one_line(error)}", hint=_HINT) from error
    if not isinstance(described, dict) or described.get("format") != FORMAT:
        raise DataError(f"the description does not say {FORMAT!r}", hint=_HINT)
    if described.get("format_version") != FORMAT_VERSION:
        version = described.get("format_version")
        raise DataError(f"format version {version!r:.20}, this prsnet reads {FORMAT_VERSION}", hint="update prsnet")
    return described


def _embeddings(arrays: Mapping[str, npt.NDArray[Any]], model: ModelIdentity) -> Embeddings:
    vectors, paths = arrays["vectors"], arrays.get("paths")
    if vectors.dtype != np.float32 or vectors.ndim != 2 or vectors.shape[1] != model.width:
        raise DataError(f"vectors {vectors.dtype} {vectors.shape}, expected float32 (N, {model.width})", hint=_HINT)
    if not np.isfinite(vectors).all():
        raise DataError("some vectors are not finite numbers", hint="embed the images again")
    if paths is not None and (paths.dtype.kind != "U" or paths.ndim != 1):
        raise DataError(f"paths {paths.dtype} {paths.shape}, expected text (N,)", hint=_HINT)
    names = () if paths is None else tuple(printable(str(name)) for name in paths)
    return Embeddings(vectors, arrays["pids"], arrays["camids"], names)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
