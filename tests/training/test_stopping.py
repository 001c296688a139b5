"""Signals: the first is remembered, the second interrupts."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from prsnet.training.stopping import SIGNALS, StopSignals


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_remembered_and_the_second_interrupts(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    with StopSignals() as stop:
        states = [stop.asked]
        os.kill(os.getpid(), number)
        assert [*states, stop.asked] == [False, True]
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert [signal.getsignal(each) for each in SIGNALS] == before


def test_with_patience_an_echo_is_not_a_second_signal() -> None:
    """Ctrl-C under torchrun arrives from the terminal and, at once, from torchrun."""
    with StopSignals(patience=60.0) as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked


def test_other_threads_are_left_alone() -> None:
    before = [signal.getsignal(each) for each in SIGNALS]
    found: list[bool] = []

    def enter() -> None:
        with StopSignals() as stop:
            found.append(stop.asked)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [False] and [signal.getsignal(each) for each in SIGNALS] == before
