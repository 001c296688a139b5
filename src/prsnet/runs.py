"""The run folder: what was asked, on what, what happened, and what came out of it.

RUN/config.json          every setting, resolved
    environment.json     versions, device, machine
    command.txt          how it was started, one line per start
    metrics.jsonl        one JSON object per line; "step" rises, a resumed run leaves no duplicates
    log.txt              what was printed
    tensorboard/         events
    checkpoints/         best, last, kept epochs; state.safetensors is what --resume reads
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

from prsnet.errors import CheckpointError, ConfigError, InputError
from prsnet.files import write_json, write_text
from prsnet.version import __version__

FREE_TO_CHANGE = frozenset(
    {"resume", "quiet", "device", "workers", "cache_gb", "tensorboard", "out", "data", "save_every", "keep_every"}
)
"""Settings that a resumed run may change, because they do not touch what is computed (a device rounds)."""


@dataclass(frozen=True)
class RunFolder:
    """Paths and files of one run."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def state(self) -> Path:
        """The file that ``--resume`` continues from."""
        return self.checkpoints / "state.safetensors"

    @property
    def metrics(self) -> Path:
        """The metrics file."""
        return self.path / "metrics.jsonl"

    def log(self, message: str, *, stream: TextIO | None = None) -> None:
        """Append a time-stamped line to the log and print it (to standard error when not told otherwise)."""
        with (self.path / "log.txt").open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now(timezone.utc).isoformat(timespec='seconds')} {message}\n")
        print(message, file=stream or sys.stderr, flush=True)

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        with self.metrics.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """Return all complete lines of metrics.jsonl."""
        return list(_complete_rows(self.metrics))

    def forget_after(self, step: int) -> None:
        """Drop metrics of later steps than ``step``: they will be computed again by the resumed run."""
        if self.metrics.exists():
            rows = [row for row in _complete_rows(self.metrics) if row["step"] <= step]
            write_text(self.metrics, "".join(json.dumps(row) + "\n" for row in rows))


def check_out(out: Path | str, *, resume: bool) -> None:
    """Refuse a folder that a run cannot be written to, before anything else is done.

    Raises:
        InputError: a file; a folder in use though ``resume`` is off; a folder in use that is no run.
    """
    path = Path(out)
    if path.exists() and not path.is_dir():
        raise InputError(f"--out {path}: is a file, expected a folder", hint="choose another --out")
    inside = {entry.name for entry in path.iterdir()} if path.is_dir() else set()
    if inside and not resume:
        raise InputError(
            f"--out {path}: the folder is not empty", hint="add --resume to go on, or choose another --out"
        )
    if inside - {"checkpoints"} and "config.json" not in inside:  # a kill may leave no more than the empty subfolder
        raise InputError(f"--out {path}: not a run folder, config.json is missing", hint="choose another --out")


def open_run(out: Path | str, config: Mapping[str, Any], *, resume: bool) -> RunFolder:
    """Create the run folder, or open it again.

    Args:
        out: the folder.
        config: the resolved settings, JSON-able, with the verb under ``"verb"``.
        resume: continue a run; it must have the same settings but for :data:`FREE_TO_CHANGE`.

    Raises:
        InputError: as :func:`check_out`, or the folder cannot be made.
        ConfigError: the run that is to be resumed has other settings; all of them are named.
    """
    check_out(out, resume=resume)
    run = RunFolder(Path(out))
    plain = json.loads(json.dumps(config))
    if (run.path / "config.json").exists():
        _refuse_other_settings(run, plain)
    try:
        run.checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {run.path}: {error.strerror}", hint="choose another --out") from error
    write_json(run.path / "config.json", plain)
    write_json(run.path / "environment.json", environment())
    with (run.path / "command.txt").open("a", encoding="utf-8") as file:
        file.write(_command() + "\n")
    return run


def read_run_config(path: Path | str) -> dict[str, Any]:
    """Return the resolved settings of a run folder; raises CheckpointError where there are none."""
    file = Path(path) / "config.json"
    try:
        settings = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{file}: cannot be read as a run's settings", hint="give a run folder") from error
    if not isinstance(settings, dict):
        raise CheckpointError(f"{file}: expected a JSON object", hint="give a run folder")
    return settings


def environment() -> dict[str, Any]:
    """Return what the figures of a run depend on beside its settings."""
    import numpy as np
    import torch

    return {
        "prsnet": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "torch_threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "numpy": np.__version__,
        "pillow": metadata.version("pillow"),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _command() -> str:
    """Return the command line of this process; ours by its name, whatever file it was started from."""
    ours = Path(sys.argv[0]).stem in ("prsnet", "__main__") if sys.argv else True
    return shlex.join(["prsnet", *sys.argv[1:]] if ours else [*sys.argv])


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _refuse_other_settings(run: RunFolder, config: Mapping[str, Any]) -> None:
    before = read_run_config(run.path)
    names = sorted((set(before) | set(config)) - FREE_TO_CHANGE)
    changed = [name for name in names if before.get(name) != config.get(name)]
    if changed:
        differences = "; ".join(f"{n}: {before.get(n)!r} then, {config.get(n)!r} now" for n in changed)
        raise ConfigError(
            f"--resume {run.path}: the run has other settings ({differences})",
            hint=f"--config {run.path / 'config.json'} --resume goes on with its settings; or start another run",
        )


def _complete_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a JSON-lines file; a last line cut off by a kill is passed over."""
    if not path.exists():
        return
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(row, dict) and "step" in row:
            yield row
