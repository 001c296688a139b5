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


@pytest.fixture
def variants(mini: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The presets ``mini-hybrid`` and ``mini-vit``: the other families, as small."""
    monkeypatch.setitem(PRESETS, "mini-hybrid", replace(PRESETS[mini], name="mini-hybrid", family="hybrid"))
    vit = replace(PRESETS["vit-nano"], depths=(1,), widths=(24,), decoder_depths=(1,), heads=2, embedding_dim=32)
    vit = replace(vit, decoder_width=16, decoder_heads=2)
    monkeypatch.setitem(PRESETS, "mini-vit", replace(vit, name="mini-vit"))
