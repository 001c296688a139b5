"""The two trainings: what they make of settings and data before the loop drives them."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from prsnet import ConfigError, InputError, PretrainConfig, TrainConfig, load_dataset, pretrain, train
from prsnet.config import RunConfig
from prsnet.data import images as image_files
from prsnet.data.layouts import load_images_only
from prsnet.data.samplers import PADDING
from prsnet.models.presets import PRESETS, build_encoder
from prsnet.training import memory
from prsnet.training.assemble import Session, open_session
from prsnet.training.defaults import PRETRAIN, TRAIN, resolve_pretrain, resolve_train
from prsnet.training.memory import activation_bytes
from prsnet.training.pretrain import PretrainTask, decay_groups, split_images
from prsnet.training.train import TrainTask, fit_identities, scale_projection

pytestmark = pytest.mark.usefixtures("no_curves")

Settings = dict[str, Any]


@pytest.fixture
def given(tiny_market: Path, tmp_path: Path, tiny: Mapping[str, Any], mini: str) -> Settings:
    """Settings of a tiny training of either kind."""
    return {**tiny, "preset": mini, "data": str(tiny_market), "out": str(tmp_path / "run"), "epochs": 1}


def rows_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def pretrain_task(settings: Settings) -> PretrainTask:
    config = resolve_pretrain(PretrainConfig(**{"batch_size": 8, **settings}))
    with open_session(config, "pretrain") as session:
        return PretrainTask(replace(config, precision="fp32"), session, load_images_only(config.data))


def train_task(settings: Settings) -> TrainTask:
    config = resolve_train(TrainConfig(**settings))
    with open_session(config, "train") as session:
        return TrainTask(replace(config, precision="fp32"), session, load_dataset(config.data))


# ------------------------------------------------------------------------------------------------ pre-training


def test_weight_decay_spares_biases_norms_and_scales(given: Settings) -> None:
    task = pretrain_task({**given, "weight_decay": 0.07})
    names = {id(parameter): name for name, parameter in task.step_module.named_parameters()}
    groups = task.optimizers["adamw"].param_groups
    decayed, plain = ([names[id(p)] for p in group["params"]] for group in groups)
    assert [group["weight_decay"] for group in groups] == [0.07, 0.0]
    assert set(decayed) | set(plain) == set(names.values()) and not set(decayed) & set(plain)
    assert all(name.endswith("weight") and "norm" not in name for name in decayed)
    # Convolutions and linear layers, which have an input width, are all that decays.
    modules = dict(task.step_module.named_modules())
    kinds = {type(modules[name.rpartition(".")[0]]).__name__ for name in decayed}
    assert kinds <= {"Conv2d", "ConvTranspose2d", "Linear"}
    assert any("scale" in name or "gamma" in name for name in plain)
    assert sum(len(group) for group in decay_groups(task.step_module)) == len(names)


def test_the_learning_rate_of_pre_training_is_scaled_by_the_images_per_step(given: Settings) -> None:
    """Method.md, section 3: 3e-4 for 256 images, warm-up from 0, then half a cosine."""
    settings = {**given, "epochs": 10, "learning_rate": 3e-4, "warmup_epochs": 2, "accumulate": 2, "hold_out": 0.1}
    task = pretrain_task(settings)
    assert task.per_epoch == 3  # 41 images are 5 batches of 8, in pairs
    peak = 3e-4 * 16 / 256
    assert task.set_learning_rates(3) == pytest.approx(peak * 3 / 6)
    assert task.set_learning_rates(0) == 0
    assert task.set_learning_rates(6) == pytest.approx(peak)
    assert task.set_learning_rates(18) == pytest.approx(peak / 2)
    assert {group["lr"] for group in task.optimizers["adamw"].param_groups} == {task.set_learning_rates(18)}
    assert task.optimizers["adamw"].defaults["betas"] == (0.9, 0.95)


def test_held_out_images_are_not_trained_on(tiny_market: Path) -> None:
    records = load_images_only(tiny_market).train
    training, held_out = split_images(records, 0.2, seed=3)
    assert (len(training), len(held_out)) == (36, 9)
    assert not set(training) & set(held_out)
    assert set(training) | set(held_out) == {record.path for record in records}
    assert split_images(records, 0.2, seed=3) == (training, held_out) != split_images(records, 0.2, seed=4)
    assert split_images(records, 0.0, seed=3)[1] == []
    with pytest.raises(ConfigError, match="2 images, pre-training needs at least 2 beside"):
        split_images(records[:2], 0.5, seed=0)


def test_held_out_images_are_measured_whole_and_always_alike(given: Settings) -> None:
    task = pretrain_task({**given, "hold_out": 0.2})
    one, same = task.evaluate(1), task.evaluate(2)
    assert one is not None and one == same and one["score"] == -one["loss"]
    assert pretrain_task({**given, "hold_out": 0.0}).evaluate(1) is None


@pytest.mark.parametrize(
    "settings",
    [
        {"normalise_targets": True, "mask_ratio": 0.5}, {"loss_over": "all", "hold_out": 0.0}, {"precision": "bf16"},
        {"preset": "mini-hybrid", "drop_path": 0.2}, {"preset": "mini-vit"},
    ],
    ids=str,
)  # fmt: skip
def test_every_way_to_pre_train_learns(given: Settings, settings: Settings, variants: None) -> None:
    run = pretrain(PretrainConfig(**{**given, "epochs": 6, "batch_size": 16, "learning_rate": 3e-2, **settings}))
    losses = [row["loss"] for row in rows_of(run) if "loss" in row]
    assert len(losses) == 12 and losses[-1] < losses[0]


def test_each_batch_has_its_own_crops_and_masks(given: Settings) -> None:
    task = pretrain_task(given)
    rows = task.plan(0)[0]
    images = task.store.take(task.own_rows(rows))
    draws = [task.inputs(images, rows, step=step, micro=micro)[:2] for step, micro in ((0, 0), (0, 0), (0, 1), (1, 0))]
    assert all(torch.equal(a, b) for a, b in zip(draws[0], draws[1], strict=True))
    for other in draws[2:]:
        assert not torch.equal(draws[0][0], other[0]) and not torch.equal(draws[0][1], other[1])
    assert (draws[0][1].sum(dim=1) == 192).all(), "three quarters of 256"


# ------------------------------------------------------------------------------------------------ fine-tuning


@pytest.mark.parametrize("loss", ["mctl", "ctl", "triplet", "mctl-raw-query"])
@pytest.mark.parametrize("soft", [False, True])
def test_the_loss_is_the_weighted_sum_of_its_parts(given: Settings, loss: str, soft: bool) -> None:
    weights = {"id_weight": 0.5, "triplet_weight": 2.0, "centroid_weight": 3.0, "center_weight": 0.01}
    run = train(TrainConfig(**{**given, "identities": 4, "loss": loss, "soft_margin": soft, **weights}))
    rows = rows_of(run)
    assert len(rows) == 4 and ("centroid" in rows[0]) == (loss != "triplet")
    for row in rows:
        expected = 0.5 * row["id"] + 2 * row["triplet"] + 3 * row.get("centroid", 0.0) + row["center"]
        assert row["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bf16", "erase": 0.5}, {"preset": "mini-hybrid", "drop_path": 0.2}, {"preset": "mini-vit"},
        {"center_weight": 0.0, "encoder_learning_rate": 1e-4, "schedule": "steps", "milestones": (2,)},
    ],
    ids=str,
)  # fmt: skip
def test_every_way_to_fine_tune_learns(given: Settings, settings: Settings, variants: None) -> None:
    chosen = {"epochs": 6, "identities": 4, "learning_rate": 3e-3, **settings}
    losses = [row["loss"] for row in rows_of(train(TrainConfig(**{**given, **chosen}))) if "loss" in row]
    assert np.mean(losses[-4:]) < np.mean(losses[:4])


def test_the_schedule_of_fine_tuning(given: Settings) -> None:
    """Method.md, section 6: linear warm-up over 10 epochs, times 0.1 at 40 and 70."""
    schedule = {"schedule": "steps", "milestones": (40, 70), "learning_rate": 3.5e-4, "warmup_epochs": 10}
    task = train_task({**given, **schedule, "epochs": 120, "identities": 4, "encoder_learning_rate": 1e-5})
    assert task.per_epoch == 4
    for epoch, factor in ((5, 0.5 + 1 / 40), (10, 1.0), (39, 1.0), (40, 0.1), (70, 0.01)):
        assert task.set_learning_rates(epoch * 4) == pytest.approx(3.5e-4 * factor)
        assert [group["lr"] for group in task.optimizers["adam"].param_groups] == pytest.approx(
            [1e-5 * factor, 3.5e-4 * factor]
        )
    inside = {id(parameter) for parameter in task.model.encoder.parameters()}
    groups = task.optimizers["adam"].param_groups
    assert {id(p) for p in groups[0]["params"]} == inside and not inside & {id(p) for p in groups[1]["params"]}
    assert task.optimizers["centres"].param_groups[0]["lr"] == 0.5, "no schedule moves the centres"
    assert groups[0]["weight_decay"] == 5e-4


def test_only_training_images_are_trained_on_and_held_out_people_are_not(given: Settings) -> None:
    task = train_task({**given, "identities": 3, "hold_out": 0.3})
    assert task.held_out is not None
    assert {path.parent.name for path in task.store.paths} == {"bounding_box_train"}
    held_out = {record.pid for record in task.held_out.gallery}
    assert len(held_out) == 2 and not held_out & set(task.table.pids.tolist())
    assert {record.path.parent.name for record in task.held_out.gallery} == {"bounding_box_train"}
    seen = {int(row) for epoch in range(3) for rows in task.plan(epoch) for row in rows} - {PADDING}
    assert seen == set(range(len(task.store)))


def test_images_are_decoded_once(given: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = image_files.read_image

    def counting(path: Path, **named: Any) -> Any:
        read.append(str(path))
        return original(path, **named)

    monkeypatch.setattr(image_files, "read_image", counting)
    train(TrainConfig(**{**given, "epochs": 3, "identities": 4}))
    assert len(read) == len(set(read)) == 45


def test_padded_slots_are_told_to_the_losses(given: Settings) -> None:
    """Person 8 has three images: of K = 4, one slot is padding, with label -1 and a black image."""
    task = train_task({**given, "identities": 8})
    rows = next(rows for rows in task.plan(0) if PADDING in rows)
    images, valid, mask, labels, _ = task.inputs(task.store.take(rows), rows, step=0, micro=0)
    assert (~labels.valid).sum() == 1 and torch.equal(labels.valid, torch.from_numpy(rows != PADDING))
    assert torch.equal(valid, labels.valid) and labels.pids[~labels.valid].tolist() == [-1]
    assert mask is not None and len(images) == len(mask) == 32


def test_the_encoder_of_the_pre_training_is_taken_whole(given: Settings, tiny_pretrained: Path, tmp_path: Path) -> None:
    task = train_task({**given, "preset": "pico", "identities": 4, "init": str(tiny_pretrained)})
    saved = load_file(tiny_pretrained / "checkpoints" / "best.safetensors")
    encoder = task.model.encoder.state_dict()
    assert len(encoder) > 50
    for name, value in encoder.items():
        assert torch.equal(value, saved[f"encoder.{name}"]), name
    message = task.session.messages[-1]
    assert f"{len(encoder)} taken, 0 missing, 0 left over, 0 mismatched" in message
    assert task.initialisation["kind"] == "autoencoder"


def test_features_of_training_images_begin_at_a_distance_of_1_from_their_mean(given: Settings) -> None:
    task = train_task({**given, "identities": 4})
    before = task.model.projection.weight.clone()
    with torch.no_grad():
        task.model.projection.weight.mul_(37)
    scale_projection(task.model, task.store)
    torch.testing.assert_close(task.model.projection.weight, before)
    assert task.model.training


def test_averaged_weights_are_what_is_saved(given: Settings) -> None:
    run = train(TrainConfig(**{**given, "identities": 4, "ema": 0.999}))
    saved, state = (
        load_file(run / "checkpoints" / "last.safetensors"),
        load_file(run / "checkpoints" / "state.safetensors"),
    )
    name = "projection.weight"
    assert torch.equal(saved[name], state[f"average.{name}"])
    assert not torch.equal(saved[name], state[f"model.model.{name}"])


def test_checkpoints_that_are_kept(given: Settings) -> None:
    run = train(
        TrainConfig(**{**given, "epochs": 5, "identities": 3, "hold_out": 0.3, "keep_every": 2, "evaluate_every": 2})
    )
    names = {path.stem for path in (run / "checkpoints").glob("*.safetensors")}
    assert names == {"best", "last", "state", "epoch-0002", "epoch-0004"}
    held_out = [row["epoch"] for row in rows_of(run) if "held_out" in row]
    assert held_out == [2, 4, 5], "every second epoch, and the last"


# -------------------------------------------------------------------------------------- before anything is done


def test_a_preset_fills_in_what_is_left_open() -> None:
    before = resolve_pretrain(PretrainConfig(data="d", out="o"))
    after = resolve_train(TrainConfig(data="d", out="o"))
    assert {name: getattr(before, name) for name in vars(PRETRAIN["nano"])} == vars(PRETRAIN["nano"])
    expected = {**vars(TRAIN["nano"]), "identities": None}  # settled when the people are counted
    assert {name: getattr(after, name) for name in expected} == expected
    assert resolve_pretrain(before) == before and resolve_train(after) == after


def test_the_large_presets_follow_the_method() -> None:
    found = resolve_train(TrainConfig(data="d", out="o", preset="tiny"))
    assert (found.epochs, found.warmup_epochs, found.learning_rate, found.weight_decay) == (120, 10, 3.5e-4, 5e-4)
    assert (found.schedule, found.milestones, found.erase, found.instances) == ("steps", (40, 70), 0.5, 4)
    assert (found.margin, found.label_smoothing, found.center_weight, found.mask_ratio) == (0.5, 0.1, 5e-4, 0.75)
    before = resolve_pretrain(PretrainConfig(data="d", out="o", preset="tiny"))
    assert (before.epochs, before.warmup_epochs, before.learning_rate, before.weight_decay) == (400, 20, 3e-4, 0.05)
    assert (before.betas, before.crop_area, before.mask_ratio) == ((0.9, 0.95), (0.2, 1.0), 0.75)


def test_a_shorter_run_has_a_shorter_warm_up_and_earlier_milestones() -> None:
    found = resolve_train(TrainConfig(data="d", out="o", preset="tiny", epochs=60))
    assert (found.epochs, found.warmup_epochs, found.milestones) == (60, 5, (20, 35))
    own = resolve_train(TrainConfig(data="d", out="o", preset="tiny", epochs=60, warmup_epochs=1, milestones=(50,)))
    assert (own.warmup_epochs, own.milestones) == (1, (50,))


@pytest.mark.parametrize(
    ("asked", "available", "processes", "expected"),
    [(None, 100, 1, 16), (None, 7, 1, 7), (None, 7, 2, 6), (5, 7, 1, 5), (7, 7, 1, 7)],
)
def test_people_per_batch(asked: int | None, available: int, processes: int, expected: int) -> None:
    config = TrainConfig(data="d", out="o", identities=asked)
    assert fit_identities(config, available, processes).identities == expected


@pytest.mark.parametrize(("asked", "available", "processes"), [(8, 7, 1), (None, 1, 1), (None, 3, 4)])
def test_too_many_people_per_batch(asked: int | None, available: int, processes: int) -> None:
    with pytest.raises(ConfigError, match=f"{available} are in the training set") as raised:
        fit_identities(TrainConfig(data="d", out="o", identities=asked), available, processes)
    assert "--identities" in raised.value.hint


@pytest.mark.parametrize(("verb", "flag"), [("train", "--identities"), ("pretrain", "--batch-size")])
def test_a_batch_that_will_not_fit_is_told_before_an_image_is_read(
    given: Settings, monkeypatch: pytest.MonkeyPatch, verb: str, flag: str
) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda: 1_000_000)
    monkeypatch.setattr(Session, "store", lambda *_: pytest.fail("images were read"))
    with pytest.raises(
        InputError, match=r"a batch of \d+ images of 64x32 needs about .* GB, 0\.0 GB are free"
    ) as raised:
        if verb == "train":
            train(TrainConfig(**{**given, "identities": 8}))
        else:
            pretrain(PretrainConfig(**{**given, "batch_size": 32}))
    assert f"use a smaller {flag} with --accumulate" in raised.value.hint
    assert not Path(given["out"]).exists()


@pytest.mark.parametrize(("preset", "most"), [("pico", 1.1), ("hybrid-nano", 1.1), ("vit-nano", 1.6)])
def test_activations_are_counted_without_computing_them(preset: str, most: float) -> None:
    """Against what a real pass keeps, and linear in the images. Attention is counted with its matrix, fused or not."""
    encoder = build_encoder(preset, torch.Generator())
    size = PRESETS[preset].image_size
    kept: dict[int, int] = {}

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        result = encoder.eval().pooled(torch.zeros(2, 3, *size))
    own = {parameter.untyped_storage().data_ptr() for parameter in encoder.parameters()}
    real = sum(count for place, count in kept.items() if place not in own)
    del result
    estimated = activation_bytes(encoder, 2, size)
    assert 0.9 * real < estimated < most * real
    assert activation_bytes(encoder, 8, size) == pytest.approx(4 * estimated, rel=0.01)


def test_settings_are_recorded_resolved(given: Settings) -> None:
    run = train(TrainConfig(**{**given, "identities": None}))
    recorded = json.loads((run / "config.json").read_text())
    assert recorded["verb"] == "train" and recorded["identities"] == 8 and recorded["precision"] == "fp32"
    assert {field.name for field in dataclasses.fields(TrainConfig)} | {"verb"} == set(recorded)
    assert all(not isinstance(value, float) or math.isfinite(value) for value in recorded.values())


def test_a_config_is_checked_as_a_whole() -> None:
    with pytest.raises(ConfigError) as raised:
        RunConfig(data="", out="o", epochs=0, accumulate=0, precision="fp8")  # type: ignore[arg-type]
    message = raised.value.message
    assert all(name in message for name in ("data: expected", "epochs: expected", "accumulate: ", "precision: "))
