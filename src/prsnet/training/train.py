"""Fine-tuning for re-identification: ``prsnet train`` (docs/method.md)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from prsnet.config import TrainConfig
from prsnet.data.augment import apply_training, draw_training, normalise, take_rows
from prsnet.data.layouts import load_dataset
from prsnet.data.loaders import ImageStore, LabelTable, Rows
from prsnet.data.samplers import identity_batches
from prsnet.data.splits import hold_out
from prsnet.data.suitability import check_training, require
from prsnet.embed import Embedder
from prsnet.errors import ConfigError
from prsnet.losses.center import CenterLoss
from prsnet.losses.centroid import centroid_triplet
from prsnet.losses.identity import identity_loss
from prsnet.losses.triplet import batch_hard_triplet
from prsnet.metrics.ranking import rank_report
from prsnet.metrics.verification import verification_report
from prsnet.models.description import describe
from prsnet.models.masking import patch_grid, random_mask
from prsnet.models.presets import build_reid, resolve
from prsnet.models.reid import ReidModel
from prsnet.rng import torch_stream
from prsnet.training.assemble import Session, data_facts, encoder_groups, open_session, take_encoder
from prsnet.training.defaults import default_identities, resolve_train
from prsnet.training.distributed import Processes, gather
from prsnet.training.loop import Loop
from prsnet.training.schedule import warmup_cosine, warmup_steps
from prsnet.types import Batch, Dataset, Embeddings, ImageRecord

SCALED_ON = 64
"""Images that the projection's first scale is measured on."""
HELD_OUT_SHARE = 0.1
HELD_OUT_FROM = 40
"""Identities from which a tenth is held out by default: with fewer, the few held out would choose by chance."""


class Labels(NamedTuple):
    """Labels of the global batch: class indices and validity, (B,) each."""

    pids: Tensor
    valid: Tensor


class ReidStep(nn.Module):
    """This process's images -> the losses over the global batch (docs/method.md)."""

    def __init__(self, model: ReidModel, config: TrainConfig, processes: Processes) -> None:
        super().__init__()
        assert model.num_classes is not None
        self.model, self.config, self.processes = model, config, processes
        generator = torch_stream(config.seed, "centres")
        self.center: CenterLoss | None = None
        if config.center_weight > 0:
            self.center = CenterLoss(model.num_classes, model.embedding_dim, generator, weight=config.center_weight)

    def forward(
        self, images: Tensor, own_valid: Tensor, mask: Tensor | None, labels: Labels, generator: torch.Generator | None
    ) -> dict[str, Tensor]:
        """Return the weighted sum as ``"loss"`` and its parts, unweighted but for the center loss."""
        features = self.model(images, mask, generator, own_valid)
        raw = gather(features.raw.float(), self.processes)
        masked = None if features.masked is None else gather(features.masked.float(), self.processes)
        return self.losses(raw, masked, labels)

    def losses(self, raw: Tensor, masked: Tensor | None, labels: Labels) -> dict[str, Tensor]:
        """Return the losses of the global batch's features, (B, D) each."""
        config = self.config
        pids, valid = labels
        margin = None if config.soft_margin else config.margin
        logits = raw.new_zeros(len(raw), self.model.num_classes or 0)
        logits[valid] = self.model.logits(raw[valid]).to(logits.dtype)
        parts = {
            "id": identity_loss(logits, pids, valid, smoothing=config.label_smoothing),
            "triplet": batch_hard_triplet(raw, pids, valid, margin=margin),
        }
        loss = config.id_weight * parts["id"] + config.triplet_weight * parts["triplet"]
        if config.loss != "triplet":
            parts["centroid"] = centroid_triplet(
                raw, masked, pids, valid, instances=config.instances, margin=margin, variant=config.loss
            )
            loss = loss + config.centroid_weight * parts["centroid"]
        if self.center is not None:
            parts["center"] = self.center(raw, pids, valid)
            loss = loss + parts["center"]
        return {"loss": loss, **parts}


class TrainTask:
    """Fine-tuning as a task for the loop."""

    score_name = "map"

    def __init__(self, config: TrainConfig, session: Session, dataset: Dataset) -> None:
        self.session, self.facts = session, data_facts(dataset)
        records, self.held_out = select_held_out(dataset, config)
        self.table = LabelTable(records)
        config = fit_identities(config, self.table.num_classes, session.processes.count)
        self.config = config
        generator = torch_stream(config.seed, "initialisation")
        self.shape = resolve(config.preset, image_size=config.image_size)
        model = build_reid(self.shape, self.table.num_classes, generator, drop_path=config.drop_path)
        self.initialisation = take_encoder(model.encoder, config.init, session)
        self.image_size = self.shape.image_size
        self.grid = patch_grid(self.image_size, self.shape.patch)
        self.pad = config.pad if config.pad is not None else round(10 * self.image_size[0] / 256)
        self.model = model.to(session.device)
        self.calibration: dict[str, Any] | None = None
        self.step_module = ReidStep(self.model, config, session.processes).to(session.device)
        self.needs_masks = config.loss in ("mctl", "mctl-raw-query")
        self._check_fit()
        self.store = session.store([record.path for record in records], self.image_size, config)
        scale_projection(self.model, self.store)
        self.optimizers = self._make_optimizers()
        self.per_epoch = math.ceil(len(self.plan(0)) / config.accumulate)

    def _check_fit(self) -> None:
        config = self.config
        assert config.identities is not None
        self.session.note_batch_statistics(self.model.encoder)
        self.session.processes.require_divisible(config.identities, "--identities")
        images = config.identities * config.instances * (2 if self.needs_masks else 1)
        self.session.require_room(self.model.encoder, images, self.image_size, "--identities")

    def _make_optimizers(self) -> dict[str, torch.optim.Optimizer]:
        config = self.config
        assert config.learning_rate is not None and config.weight_decay is not None
        groups = encoder_groups(self.model.encoder, self.model, config.learning_rate, config.encoder_learning_rate)
        self.clipped = [parameter for group in groups for parameter in group["params"]]
        optimizers: dict[str, torch.optim.Optimizer] = {
            "adam": torch.optim.Adam(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
        }
        if self.step_module.center is not None:
            centres = self.step_module.center.parameters()
            optimizers["centres"] = torch.optim.SGD(centres, lr=config.center_learning_rate)
        return optimizers

    def plan(self, epoch: int) -> list[Rows]:
        """Return the epoch's P x K batches."""
        assert self.config.identities is not None
        return identity_batches(
            self.table.classes, self.config.identities, self.config.instances, seed=self.config.seed, epoch=epoch
        )

    def own_rows(self, rows: Rows) -> Rows:
        """Return this process's part of a batch: whole identities."""
        return rows[self.session.processes.rows(len(rows))]

    def inputs(self, images: Tensor, rows: Rows, *, step: int, micro: int) -> tuple[Any, ...]:
        """Return augmented images, their validity and masks, the labels of the global batch, and a generator."""
        config, device = self.config, images.device
        self.calibration = None  # it was of the weights before this step
        labels: Batch = self.table.batch(images.new_zeros(len(rows)), rows)
        own = torch.arange(len(rows), device=device)[self.session.processes.rows(len(rows))]
        draw = draw_training(
            len(rows),
            self.image_size,
            generator=torch_stream(config.seed, "augment", step, micro),
            flip=config.flip,
            pad=self.pad,
            erase=config.erase or 0.0,
        )
        mask = None
        if self.needs_masks:
            stream = torch_stream(config.seed, "mask", step, micro)
            mask = random_mask(len(rows), self.grid, config.mask_ratio, generator=stream).to(device)[own]
        return (
            apply_training(images, take_rows(draw, own), pad=self.pad),
            labels.valid[own],
            mask,
            Labels(labels.pids, labels.valid),
            self.session.path_generator(config, step, micro),
        )

    def set_learning_rates(self, step: int) -> float:
        """Linear warm-up, then steps or a cosine, on each group's own peak (docs/method.md)."""
        config = self.config
        assert config.epochs is not None and config.warmup_epochs is not None and config.learning_rate is not None
        warmup = config.warmup_epochs * self.per_epoch
        if config.schedule == "cosine":
            factor = warmup_cosine(step, total=config.epochs * self.per_epoch, warmup=warmup)
        else:
            milestones = config.milestones or ()
            factor = warmup_steps(step, per_epoch=self.per_epoch, warmup=warmup, milestones=milestones)
        for group in self.optimizers["adam"].param_groups:
            group["lr"] = group["peak"] * factor
        return config.learning_rate * factor

    def evaluate(self, epoch: int) -> dict[str, float] | None:
        """Return mAP and Rank-1 on the held-out identities when an evaluation is due."""
        config = self.config
        assert config.evaluate_every is not None
        if self.held_out is None or (epoch % config.evaluate_every and epoch != config.epochs):
            return None
        embedder = Embedder(self.model, self.image_size, device=self.session.device, precision=config.precision)
        query = embedder.embed(self.held_out.query, workers=config.workers)
        same = self.held_out.query == self.held_out.gallery
        gallery = query if same else embedder.embed(self.held_out.gallery, workers=config.workers)
        has_cameras = len({record.camid for record in (*self.held_out.query, *self.held_out.gallery)}) > 1
        report = rank_report(query, gallery, exclude_same_camera=has_cameras, ranks=(1,))
        self.calibration = calibrate(query, gallery, exclude_same_camera=has_cameras)
        return {"map": report.map, "rank1": report.cmc[1]}

    def description(self) -> dict[str, Any]:
        """Return the checkpoint's description."""
        return {
            "kind": "reid",
            "architecture": describe(self.shape, kind="reid", num_classes=self.table.num_classes),
            "preprocessing": self.session.preprocessing(self.image_size),
            "identities": self.table.num_classes,
            "loss": self.config.loss,
            "calibration": self.calibration,
            "provenance": {
                "verb": "train",
                "data": self.facts,
                "images": len(self.store),
                "seed": self.config.seed,
                "initialisation": self.initialisation,
            },
            "license": self.config.license,
        }


def train(config: TrainConfig) -> Path:
    """Fine-tune a network for re-identification; return the run folder.

    Raises:
        ConfigError, DataError, CheckpointError: settings, data or weights that cannot be used; before the first step.
        TrainingError: a loss that is not finite.
    """
    config = resolve_train(config)
    with open_session(config, "train") as session:
        config = dataclasses.replace(config, precision=session.precision)
        dataset = load_dataset(config.data, layout=config.layout, seed=config.split_seed)
        session.warn(require(check_training(dataset.train, instances=config.instances)))
        task = TrainTask(config, session, dataset)
        run = session.start(task.config)
        if session.processes.is_first:
            run.log(_opening(task))
        Loop(task, run, task.config, device=session.device, processes=session.processes).fit()
        session.finish(run)
        return run.path


def calibrate(query: Embeddings, gallery: Embeddings, *, exclude_same_camera: bool) -> dict[str, Any]:
    """Return similarity thresholds for wished false positive rates, and how many pairs and people they rest on."""
    found = verification_report(query, gallery, exclude_same_camera=exclude_same_camera)
    return {
        "identities": found.identities,
        "eer": found.eer,
        "eer_threshold": found.eer_threshold,
        "points": [point.to_dict() for point in found.points],
    }


def scale_projection(model: ReidModel, store: ImageStore) -> None:
    """Scale the fresh projection so that features of training images lie at a distance of about 1 from their mean.

    Encoders come with vectors of very different length: one from scratch of a few units, a pre-trained one of tens.
    The triplet losses measure in the unit of their margin, 0.5: far above it they would first of all shrink what the
    encoder has learned. What it is worth stands in docs/results.md.
    """
    rows = np.linspace(0, len(store) - 1, min(SCALED_ON, len(store))).astype(np.int64)
    images = normalise(store.take(rows).to(model.projection.weight.device))
    was_training = model.training
    model.eval()
    with torch.no_grad():
        features = model.features(images)
        deviation = (features - features.mean(dim=0)).norm(dim=1).mean()
        if deviation > 0:
            model.projection.weight.div_(deviation)
    model.train(was_training)


def select_held_out(dataset: Dataset, config: TrainConfig) -> tuple[Sequence[ImageRecord], Dataset | None]:
    """Return the records to train on, and the held-out identities, if any, that choose the best checkpoint."""
    identities = len({record.pid for record in dataset.train})
    share = config.hold_out
    if share is None:
        share = HELD_OUT_SHARE if identities >= HELD_OUT_FROM else 0.0
    if share == 0:
        return dataset.train, None
    return hold_out(dataset, seed=config.split_seed, fraction=share)


def fit_identities(config: TrainConfig, available: int, processes: int) -> TrainConfig:
    """Return the config with the identities per batch settled: the preset's, or all there are when they are fewer.

    Raises:
        ConfigError: more identities per batch were asked for than there are, or fewer than two are there.
    """
    wanted = config.identities
    if wanted is None:
        most = min(default_identities(config.preset), available)
        wanted = most - most % processes
    if wanted > available or wanted < 2:
        raise ConfigError(
            f"identities: {wanted} per batch, {available} are in the training set",
            hint="use --identities 2 or more, up to the number there is; or add people",
        )
    return dataclasses.replace(config, identities=wanted)


def _opening(task: TrainTask) -> str:
    size = sum(parameter.numel() for parameter in task.model.parameters()) / 1e6
    config, count = task.config, task.session.processes.count
    held = f", {len(task.held_out.query)} queries of held-out identities" if task.held_out else ""
    cached = "decoded once" if task.store.cached else "decoded each time, they do not fit into memory"
    shared = f" on {count} processes" if count > 1 else ""
    return (
        f"training {config.preset} ({size:.1f} M parameters) with {config.loss} on {len(task.store)} images of "
        f"{task.table.num_classes} identities{held}, {cached}; {config.epochs} epochs of {task.per_epoch} steps, "
        f"batch {config.identities} x {config.instances}{shared}"
    )
