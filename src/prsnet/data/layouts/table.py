"""A table of images: CSV with the columns ``path,pid,camid,split``."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

from prsnet.data.layouts.declaration import Layout, describe, labelled_parts, quote
from prsnet.data.splits import Parts, halves_by_identity
from prsnet.errors import DataError
from prsnet.types import DISTRACTOR_PID, JUNK_PID, ImageRecord

REQUIRED = ("path", "pid")
COLUMNS = ("path", "pid", "camid", "split")
SPLITS = ("train", "query", "gallery")
_LARGEST = 2**31 - 1


def _header(file: Path) -> list[str]:
    """Return the column names of ``file``, or none when it cannot be read as text."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            return [name.strip() for name in next(csv.reader(lines), [])]
    except (OSError, UnicodeDecodeError, csv.Error):
        return []


def _is_csv(file: Path) -> bool:
    return file.suffix.lower() == ".csv" and not file.name.startswith(".") and file.is_file()


def _tables(path: Path) -> list[Path]:
    """Return the CSV files at ``path`` with our columns; a CSV file that is named itself counts anyway."""
    if not path.is_dir():
        return [path] if _is_csv(path) else []
    return sorted(file for file in path.iterdir() if _is_csv(file) and set(REQUIRED) <= set(_header(file)))


def fits_table(path: Path) -> bool:
    """Return whether ``path`` is a CSV file, or a folder that holds one or more with our columns."""
    return bool(_tables(path))


def load_table(path: Path, seed: int) -> Parts:
    """Return the parts that a CSV file lists.

    ``path``: an image, relative to the CSV's folder (or absolute). ``pid``: a whole number from 1 up; in the gallery
    also 0 (distractor) and -1 (junk); empty in the training part when unlabelled. ``camid``: a whole number from 0 up,
    or empty when unknown; the column may be absent. ``split``: train, query or gallery; without this column the
    identities are split in halves by the seed.

    Raises:
        DataError: more than one such file in the folder, columns missing or unknown, or bad rows: all bad rows at once,
            with their line numbers.
    """
    tables = _tables(path)
    if len(tables) != 1:
        found = quote([table.name for table in tables]) or describe(path)
        raise DataError(f"{path}: expected one dataset CSV, found {found}", hint="name the file itself")
    has_split, rows = _rows(tables[0])
    if not has_split:
        return halves_by_identity(
            [record for _, record in rows if record.pid is not None and record.pid > 0], seed=seed
        )
    parts: dict[str, list[ImageRecord]] = defaultdict(list)
    for split, record in rows:
        parts[split].append(record)
    return labelled_parts(parts["train"], parts["query"], parts["gallery"])


def _rows(file: Path) -> tuple[bool, list[tuple[str, ImageRecord]]]:
    """Return whether there is a split column, and (split, record) per row."""
    rows: list[tuple[str, ImageRecord]] = []
    faults: list[str] = []
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.reader(lines)
            columns = [name.strip() for name in next(reader, [])]
            _check_columns(file, columns)
            for cells in reader:
                if any(cell.strip() for cell in cells):
                    record, fault = _row(file.parent, columns, [cell.strip() for cell in cells])
                    rows += [record] if record else []
                    faults += [f"line {reader.line_num}: {fault}"] if fault else []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{file}: cannot read the CSV: {reason}", hint="save it as plain UTF-8 text") from error
    if faults:
        raise DataError(f"{file}: {len(faults)} bad rows: {_join(faults)}", hint="mend these lines")
    if not rows:
        raise DataError(f"{file}: no rows below the header", hint="add one line per image")
    return "split" in columns, rows


def _join(faults: list[str]) -> str:
    shown = 20
    more = f"; and {len(faults) - shown} more" if len(faults) > shown else ""
    return "; ".join(faults[:shown]) + more


def _check_columns(file: Path, columns: list[str]) -> None:
    missing = [name for name in REQUIRED if name not in columns]
    unknown = [name or "(nameless)" for name in columns if name not in COLUMNS]
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if missing or unknown or doubled:
        faults = [("missing", missing), ("unknown", unknown), ("given twice", doubled)]
        told = "; ".join(f"{what}: {', '.join(names)}" for what, names in faults if names)
        hint = f"the first line must be {','.join(COLUMNS)}, with commas; camid and split may be left out"
        raise DataError(f"{file}: line 1: columns {told}", hint=hint)


def _row(folder: Path, columns: list[str], cells: list[str]) -> tuple[tuple[str, ImageRecord] | None, str]:
    """Return ((split, record), "") or (None, what is wrong with the row)."""
    if len(cells) != len(columns):
        return None, f"{len(cells)} cells, expected {len(columns)}"
    row = dict(zip(columns, cells, strict=True))
    split = row.get("split", "")
    faults = []
    if "split" in row and split not in SPLITS:
        faults.append(f"split '{split}', expected {', '.join(SPLITS)}")
    if not row["path"] or "\0" in row["path"] or not (folder / row["path"]).is_file():
        faults.append(f"no image at '{row['path']}'")
    pid, fault = _whole(row["pid"], "pid", JUNK_PID)
    faults.append(fault or _pid_fault(pid, split))
    camid, fault = _whole(row.get("camid", ""), "camid", 0)
    faults = [fault for fault in [*faults, fault] if fault]
    if faults:
        return None, ", ".join(faults)
    return (split, ImageRecord(folder / row["path"], pid, camid)), ""


def _whole(text: str, name: str, smallest: int) -> tuple[int | None, str]:
    if not text:
        return None, ""
    digits = text.removeprefix("-")
    number = int(text) if digits.isascii() and digits.isdigit() and len(digits) < 12 else smallest - 1
    if not smallest <= number <= _LARGEST:
        return None, f"{name} '{text}', expected a whole number from {smallest} to {_LARGEST}"
    return number, ""


def _pid_fault(pid: int | None, split: str) -> str:
    if pid is None:
        return "" if split == "train" else "pid is empty"
    if pid <= DISTRACTOR_PID and split != "gallery":
        return f"pid {pid}: 0 (distractor) and -1 (junk) are for the gallery, people count from 1"
    return ""


CSV = Layout(name="csv", expects="a CSV file path,pid,camid,split", fits=fits_table, load=load_table)
