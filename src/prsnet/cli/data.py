"""The verb ``data synth``."""

from __future__ import annotations

from prsnet.cli.options import SynthConfig
from prsnet.cli.progress import progress_bar


def synth(config: SynthConfig) -> None:
    """Run ``prsnet data synth``: write the images, print the counts."""
    from prsnet.data.synthetic import write_dataset

    with progress_bar("rendering") as progress:
        dataset = write_dataset(
            config.out,
            identities=config.identities,
            cameras=config.cameras,
            images_per_camera=config.images_per_camera,
            seed=config.seed,
            size=config.image_size,
            distractors=config.distractors,
            junk=config.junk,
            test_fraction=config.test_fraction,
            image_format=config.image_format,
            progress=progress,
        )
    counts = {"train": len(dataset.train), "query": len(dataset.query), "gallery": len(dataset.gallery)}
    print(f"{config.out}: " + ", ".join(f"{count} {part}" for part, count in counts.items()) + " images")
