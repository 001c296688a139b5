"""Masked pre-training: ``prsnet pretrain`` (docs/method.md)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prsnet.config import PretrainConfig
from prsnet.data.augment import apply_crops, draw_crops, normalise, take_rows
from prsnet.data.layouts import load_images_only
from prsnet.data.loaders import Rows
from prsnet.data.samplers import shuffled_batches
from prsnet.data.suitability import check_pretraining, require
from prsnet.devices import autocast
from prsnet.errors import ConfigError
from prsnet.models.autoencoder import Autoencoder, reconstruction_loss
from prsnet.models.description import describe
from prsnet.models.masking import hidden_count, random_mask
from prsnet.models.presets import build_autoencoder, resolve
from prsnet.rng import numpy_stream, torch_stream
from prsnet.runs import RunFolder
from prsnet.training.assemble import Session, data_facts, open_session, take_encoder
from prsnet.training.defaults import resolve_pretrain
from prsnet.training.distributed import Processes
from prsnet.training.loop import Loop
from prsnet.training.schedule import warmup_cosine
from prsnet.types import Dataset, ImageRecord

EVALUATION_BATCH = 64


class ReconstructionStep(nn.Module):
    """Images and mask -> the reconstruction loss."""

    def __init__(self, autoencoder: Autoencoder, config: PretrainConfig) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.normalise_targets, self.over = config.normalise_targets, config.loss_over

    def forward(self, images: Tensor, mask: Tensor, generator: torch.Generator | None) -> dict[str, Tensor]:
        """Return ``{"loss": scalar}``; see :func:`prsnet.models.autoencoder.reconstruction_loss`."""
        prediction = self.autoencoder(images, mask, generator)
        loss = reconstruction_loss(
            prediction,
            images,
            mask,
            self.autoencoder.patch,
            normalise_targets=self.normalise_targets,
            over=self.over,
        )
        return {"loss": loss}


class PretrainTask:
    """Reconstruction of masked images as a task for the loop."""

    score_name = "score"

    def __init__(self, config: PretrainConfig, session: Session, dataset: Dataset) -> None:
        assert config.batch_size and config.learning_rate and config.epochs and config.warmup_epochs is not None
        self.config, self.session = config, session
        self.facts = data_facts(dataset)
        generator = torch_stream(config.seed, "initialisation")
        self.shape = resolve(config.preset, image_size=config.image_size)
        autoencoder = build_autoencoder(self.shape, generator, drop_path=config.drop_path)
        self.initialisation = take_encoder(autoencoder.encoder, config.init, session)
        self.model: Autoencoder = autoencoder.to(session.device)
        self.step_module = ReconstructionStep(self.model, config)
        session.note_batch_statistics(self.model.encoder)
        require_hidden(self.model.grid, config.mask_ratio)
        training, held_out = split_images(dataset.train, config.hold_out, seed=config.seed)
        self.count = len(training)
        self.batch_size = min(config.batch_size, len(training))
        session.processes.require_divisible(self.batch_size, "--batch-size")
        session.require_room(self.model.encoder, self.batch_size, self.model.image_size, "--batch-size")
        self.store = session.store(training, self.model.image_size, config)
        self.held_out = session.store(held_out, self.model.image_size, config)
        self.per_epoch = math.ceil(len(self.plan(0)) / config.accumulate)
        self.peak = config.learning_rate * self.batch_size * config.accumulate / 256
        decayed, plain = decay_groups(self.step_module)
        groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": config.weight_decay}]
        groups.append({"params": plain, "weight_decay": 0.0})
        self.optimizers = {"adamw": torch.optim.AdamW(groups, lr=self.peak, betas=config.betas)}
        self.clipped = [*decayed, *plain]

    def plan(self, epoch: int) -> list[Rows]:
        """Return the epoch's batches."""
        return shuffled_batches(self.count, self.batch_size, seed=self.config.seed, epoch=epoch)

    def own_rows(self, rows: Rows) -> Rows:
        """Return this process's part of a batch."""
        return rows[self.session.processes.rows(len(rows))]

    def inputs(self, images: Tensor, rows: Rows, *, step: int, micro: int) -> tuple[Any, ...]:
        """Return normalised crops, masks and the generator of dropped paths."""
        own = torch.arange(len(rows), device=images.device)[self.session.processes.rows(len(rows))]
        seed = self.config.seed
        crops = draw_crops(len(rows), generator=torch_stream(seed, "crops", step, micro), area=self.config.crop_area)
        mask = random_mask(
            len(rows), self.model.grid, self.config.mask_ratio, generator=torch_stream(seed, "mask", step, micro)
        )
        generator = self.session.path_generator(self.config, step, micro)
        return apply_crops(images, take_rows(crops, own)), mask.to(images.device)[own], generator

    def set_learning_rates(self, step: int) -> float:
        """Linear warm-up, then half a cosine to 0 (docs/method.md)."""
        assert self.config.epochs is not None and self.config.warmup_epochs is not None
        total, warmup = self.per_epoch * self.config.epochs, self.per_epoch * self.config.warmup_epochs
        rate = self.peak * warmup_cosine(step, total=total, warmup=warmup)
        for group in self.optimizers["adamw"].param_groups:
            group["lr"] = rate
        return rate

    def evaluate(self, epoch: int) -> dict[str, float] | None:
        """Return the reconstruction loss of the held-out images, whole and always masked alike."""
        if not len(self.held_out):
            return None
        self.step_module.eval()
        total = 0.0
        for start in range(0, len(self.held_out), EVALUATION_BATCH):
            rows = np.arange(start, min(start + EVALUATION_BATCH, len(self.held_out)), dtype=np.int64)
            images = normalise(self.held_out.take(rows).to(self.session.device))
            generator = torch_stream(self.config.seed, "held-out mask", start)
            mask = random_mask(len(rows), self.model.grid, self.config.mask_ratio, generator=generator)
            with torch.no_grad(), autocast(self.config.precision, self.session.device):
                losses = self.step_module(images, mask.to(images.device), None)
            total += float(losses["loss"]) * len(rows)
        loss = total / len(self.held_out)
        return {"loss": loss, "score": -loss}

    def description(self) -> dict[str, Any]:
        """Return the checkpoint's description."""
        return {
            "kind": "autoencoder",
            "architecture": describe(self.shape, kind="autoencoder"),
            "preprocessing": self.session.preprocessing(self.model.image_size),
            "mask_ratio": self.config.mask_ratio,
            "normalised_targets": self.config.normalise_targets,
            "provenance": {
                "verb": "pretrain",
                "data": self.facts,
                "images": self.count,
                "seed": self.config.seed,
                "initialisation": self.initialisation,
            },
            "license": self.config.license,
        }


def pretrain(config: PretrainConfig) -> Path:
    """Pre-train an encoder on unlabelled crops; return the run folder.

    Raises:
        ConfigError, DataError, CheckpointError: settings, images or weights that cannot be used; before the first step.
        TrainingError: a loss that is not finite.
    """
    config = resolve_pretrain(config)
    with open_session(config, "pretrain") as session:
        config = dataclasses.replace(config, precision=session.precision)
        dataset = load_images_only(
            config.data, layout=config.layout, seed=config.split_seed, include_test=config.include_test
        )
        session.warn(require(check_pretraining(dataset.train, batch_size=config.batch_size or 1)))
        task = PretrainTask(config, session, dataset)
        run: RunFolder = session.start(config)
        if session.processes.is_first:
            run.log(_opening(task, session.processes))
        Loop(task, run, config, device=session.device, processes=session.processes).fit()
        session.finish(run)
        return run.path


def split_images(records: Sequence[ImageRecord], share: float, *, seed: int) -> tuple[list[Path], list[Path]]:
    """Return (training paths, held-out paths); the held-out ones are a random share, at most 512."""
    held = min(int(share * len(records)), 512)
    if len(records) - held < 2:
        raise ConfigError(f"data: {len(records)} images, pre-training needs at least 2 beside those held out")
    order = numpy_stream(seed, "held-out images").permutation(len(records))
    paths = [record.path for record in records]
    return [paths[i] for i in sorted(order[held:])], [paths[i] for i in sorted(order[:held])]


def require_hidden(grid: tuple[int, int], ratio: float) -> None:
    """Raise ConfigError when the ratio hides not even one patch of a grid, so that nothing is to be reconstructed."""
    patches = grid[0] * grid[1]
    if hidden_count(patches, ratio) < 1:
        raise ConfigError(f"mask_ratio {ratio} hides none of {patches} patches", hint="use --mask-ratio 0.75")


def decay_groups(module: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Return (parameters with weight decay, those without): biases, norms and per-channel scales have none."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]


def _opening(task: PretrainTask, processes: Processes) -> str:
    size = sum(parameter.numel() for parameter in task.model.parameters()) / 1e6
    held = f", {len(task.held_out)} held out" if len(task.held_out) else ""
    cached = "decoded once" if task.store.cached else "decoded each time, they do not fit into memory"
    shared = f" on {processes.count} processes" if processes.count > 1 else ""
    return (
        f"pre-training {task.config.preset} ({size:.1f} M parameters) on {task.count} images{held}, {cached}; "
        f"{task.config.epochs} epochs of {task.per_epoch} steps, batch {task.batch_size}{shared}"
    )
