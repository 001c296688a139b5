"""Who searched and deleted what, and when: one JSON object per line, only ever added to, never a picture or a vector.

A line is synced to disk before the action it tells of is answered or committed: nothing is found or deleted that the
log does not know. A kill in between may leave a line whose deletion did not happen, never the other way round.
"""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from prsnet.gallery.faults import GalleryUnavailable

MAX_LISTED = 1000
"""Longest list (of ids, say) that a line spells out; longer ones are cut and their length is given."""


def current_user() -> str:
    """Return the name of the user who runs this process, for the log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # A container may run as a user number without a name.
        return f"uid {os.getuid()}" if hasattr(os, "getuid") else "unknown"


class AuditLog:
    """One log file.

    Args:
        path: the file; made when the first line is written, readable by its owner alone.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, action: str, *, who: str, **facts: Any) -> None:
        """Add one line and sync it.

        Args:
            action: what was done, e.g. ``"search"``.
            who: user or token.
            facts: JSON-able; lists are cut at :data:`MAX_LISTED`.

        Raises:
            GalleryUnavailable: the log cannot be written, so the action must not go on.
        """
        time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        text = json.dumps({"time": time, "who": who, "action": action, **_shortened(facts)}, allow_nan=False)
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                _write_all(descriptor, f"{_mend(descriptor)}{text}\n".encode())
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            hint = "free some space or mend the permissions; without its log the gallery does nothing"
            raise GalleryUnavailable(
                f"{self.path}: the audit log cannot be written: {error.strerror}", hint=hint
            ) from error

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield the lines as objects, oldest first; a line cut off by a power cut is passed over."""
        if not self.path.exists():
            return
        with self.path.open(encoding="utf-8", errors="replace") as file:
            for line in file:
                try:
                    entry = json.loads(line)
                except json.JSONDecodeError:
                    continue
                if isinstance(entry, dict):
                    yield entry


def _mend(descriptor: int) -> str:
    """Return the newline that a line cut off at the end of the file still needs, else nothing."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    if not end:
        return ""
    os.lseek(descriptor, end - 1, os.SEEK_SET)
    return "" if os.read(descriptor, 1) == b"\n" else "\n"


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _shortened(facts: dict[str, Any]) -> dict[str, Any]:
    short: dict[str, Any] = {}
    for name, value in facts.items():
        if isinstance(value, dict):
            short[name] = _shortened(value)
        elif isinstance(value, (list, tuple)) and len(value) > MAX_LISTED:
            short[name], short[f"{name}_count"] = list(value[:MAX_LISTED]), len(value)
        else:
            short[name] = value
    return short
