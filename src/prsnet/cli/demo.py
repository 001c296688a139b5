"""The verb ``demo``."""

from __future__ import annotations

from prsnet.cli.picture_options import DemoConfig


def demo(config: DemoConfig) -> None:
    """Run ``prsnet demo``."""
    from prsnet.demo import run_demo

    run_demo(config.out, seed=config.seed, say=lambda line: print(line, flush=True))
