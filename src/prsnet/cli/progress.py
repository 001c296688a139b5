"""A bar with an ETA for work that counts its items."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tqdm import tqdm


@contextmanager
def progress_bar(what: str, *, unit: str = "image") -> Iterator[Callable[[int, int], None]]:
    """Yield a function of (done, total) that moves a bar on standard error; silent when that is no terminal.

    Args:
        what: a word or two before the bar.
        unit: what is counted.
    """
    bar: tqdm[Any] = tqdm(total=None, unit=unit, desc=what, disable=None, leave=False, dynamic_ncols=True)

    def move(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    try:
        yield move
    finally:
        bar.close()
