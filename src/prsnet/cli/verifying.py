"""The verb ``verify``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prsnet.cli.options import VerifyConfig
from prsnet.errors import CheckpointError, ConfigError


def verify(config: VerifyConfig) -> None:
    """Run ``prsnet verify``: similarity, threshold, verdict, and what the threshold rests on."""
    from prsnet.embed import Embedder

    embedder = Embedder.from_checkpoint(config.model, device=config.device)
    if config.threshold is None:
        threshold, basis = calibrated_threshold(embedder.facts, config.fpr, source=config.model)
    else:
        threshold, basis = config.threshold, "as asked for"
    vectors = embedder.embed(config.images).numpy()
    similarity = float(vectors[0] @ vectors[1])
    verdict = "same person" if similarity >= threshold else "different people"
    print(f"{verdict}: similarity {similarity:.4f}, threshold {threshold:.4f} ({basis})")


def calibrated_threshold(facts: Mapping[str, Any], fpr: float, *, source: str) -> tuple[float, str]:
    """Return the threshold that a model was calibrated with for a false positive rate, and what it rests on, in words.

    Raises:
        CheckpointError: the model was not calibrated. ConfigError: not for this rate.
    """
    calibration = facts.get("calibration")
    points = calibration.get("points") if isinstance(calibration, Mapping) else None
    if not isinstance(calibration, Mapping) or not isinstance(points, list) or not points:
        raise CheckpointError(
            f"{source}: the model holds no calibrated threshold: trained without held-out identities, or stopped early",
            hint="train to the end with --hold-out 0.1, or give --threshold",
        )
    by_rate = {point["wished_fpr"]: point for point in points}
    if fpr not in by_rate:
        raise ConfigError(f"fpr: got {fpr:g}, calibrated for {', '.join(f'{rate:g}' for rate in sorted(by_rate))}")
    point = by_rate[fpr]
    basis = (
        f"false positive rate {fpr:g} on {point['negatives']} pairs of different and {point['positives']} of the same "
        f"among {calibration['identities']} held-out people"
    )
    if not point["supported"]:
        basis += "; too few pairs to tell such a small rate"
    return float(point["threshold"]), basis
