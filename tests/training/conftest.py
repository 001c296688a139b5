"""Fixtures of the tests that train."""

from __future__ import annotations

from dataclasses import replace

import pytest

from prsnet.models.presets import PRESETS


@pytest.fixture
def mini(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a preset that is as small as a network of the method can be."""
    ones, widths = (1, 1, 1, 1), (8, 16, 24, 32)
    shape = replace(PRESETS["pico"], name="mini", depths=ones, widths=widths, decoder_depths=ones, embedding_dim=32)
    monkeypatch.setitem(PRESETS, "mini", shape)
    return "mini"


@pytest.fixture
def no_curves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the pictures out, which take longer than the runs of these tests."""
    monkeypatch.setattr("prsnet.figures.draw_curves", lambda run: None)
