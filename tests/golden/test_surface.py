"""The public surface is frozen: names, verbs, their flags, the checkpoint's keys.

A change here is a decision: run the tests with PRSNET_UPDATE_SURFACE=1, look at the diff of surface.json, and write the
change into the changelog.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest

import prsnet
from prsnet.checkpoint import FORMAT_VERSION
from prsnet.cli.main import VERBS, load
from prsnet.models.description import describe
from prsnet.models.presets import PRESETS, resolve

GOLDEN = Path(__file__).with_name("surface.json")


def surface() -> dict[str, Any]:
    """Return what users and their scripts hold on to."""
    return {
        "names": sorted(prsnet.__all__),
        "verbs": {
            verb.name: {
                "positionals": list(verb.positionals),
                "settings": sorted(field.name for field in dataclasses.fields(load(verb.config))),
            }
            for verb in VERBS
        },
        "presets": sorted(PRESETS),
        "checkpoint_format": FORMAT_VERSION,
        "architecture_keys": sorted(describe(resolve("pico"), kind="reid")),
    }


def test_the_surface_is_the_frozen_one() -> None:
    found = surface()
    if os.environ.get("PRSNET_UPDATE_SURFACE"):
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    assert found == json.loads(GOLDEN.read_text(encoding="utf-8"))


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_setting_is_documented(verb: Any) -> None:
    from prsnet.config import field_documentation

    config = load(verb.config)
    documented = field_documentation(config)
    missing = [field.name for field in dataclasses.fields(config) if not documented.get(field.name)]
    assert not missing
    assert (config.__doc__ or "").strip()


def test_every_public_name_can_be_had() -> None:
    for name in prsnet.__all__:
        assert getattr(prsnet, name) is not None
