"""Ctrl-C and a scheduler's SIGTERM end a run between two steps, where its state is whole and can be saved."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """The user asked to stop; raised where nothing is half done."""


class StopSignals:
    """A context in which the first signal only sets :attr:`asked`; the second interrupts at once.

    Outside the main thread, where Python takes no signals, it changes nothing.

    Args:
        patience: seconds in which further signals count as the first one: Ctrl-C reaches the processes of torchrun from
            the terminal and again from torchrun.
    """

    def __init__(self, patience: float = 0.0) -> None:
        self.asked = False
        self._patience, self._since = patience, 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._remember) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.asked and time.monotonic() - self._since >= self._patience:
            raise KeyboardInterrupt
        if self.asked:
            return
        self.asked, self._since = True, time.monotonic()
        os.write(2, b"\nstopping after this step; once more to stop at once\n")  # print may not be used in a handler
