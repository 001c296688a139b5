"""Loading weights: everything taken or named, nothing dropped in silence."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from prsnet.errors import CheckpointError
from prsnet.models.autoencoder import MaskedAutoencoder
from prsnet.models.convnext import ConvNeXt
from prsnet.models.ecosystem import from_ecosystem, to_ecosystem
from prsnet.models.initialization import init_weights
from prsnet.models.reid import ReidModel
from prsnet.models.transfer import (
    Mismatch,
    compare_keys,
    encoder_part,
    encoder_state,
    load_encoder,
    load_model,
)


def encoder(seed: int) -> ConvNeXt:
    made = ConvNeXt((1, 1, 1, 1), (2, 3, 4, 5), stem=2)
    init_weights(made, torch.Generator().manual_seed(seed))
    return made


def autoencoder(seed: int = 0) -> MaskedAutoencoder:
    model = MaskedAutoencoder(encoder(seed), (16, 16), (4, 4), (1, 1, 1, 1))
    init_weights(model, torch.Generator().manual_seed(seed))
    with torch.no_grad():  # norms that were trained
        for parameter in model.parameters():
            parameter.add_(0.5)
    return model


def reid(seed: int = 1, num_classes: int | None = 3) -> ReidModel:
    model = ReidModel(encoder(seed), 6, (4, 4), num_classes)
    init_weights(model, torch.Generator().manual_seed(seed))
    return model


def snapshot(model: torch.nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


def unchanged(model: torch.nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_pretrained_encoder_arrives_whole_with_its_norms() -> None:
    source, target = autoencoder(), reid()
    report = load_encoder(target, encoder_state(source))
    assert set(report.taken) == set(source.encoder.state_dict())
    assert (report.missing, report.left_over, report.mismatched) == ((), (), ())
    assert sum(".norm." in key for key in report.taken) == 8  # weight and bias of the norm of each of four blocks
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    assert torch.equal(source.encoder.pooled(images), target.encoder.pooled(images))


def test_encoder_part_splits_a_whole_state() -> None:
    model = autoencoder()
    inside, rest = encoder_part(model.state_dict())
    assert inside.keys() == model.encoder.state_dict().keys()
    assert len(inside) + len(rest) == len(model.state_dict())
    assert "norm.weight" in rest
    with pytest.raises(CheckpointError, match="no encoder"):
        encoder_part({"norm.weight": torch.zeros(1)})


def test_weights_of_the_ecosystem_report_what_is_left_over() -> None:
    released = to_ecosystem(encoder_state(autoencoder()), "original") | {"head.weight": torch.zeros(3)}
    state, left_over = from_ecosystem(released)
    assert left_over == ("head.weight",)
    assert load_encoder(reid(), state).left_over == ()


def test_shape_mismatch_names_key_expected_and_found() -> None:
    target = reid()
    before = snapshot(target)
    state = encoder_state(autoencoder())
    state["stages.0.0.expand.weight"] = torch.zeros(8, 3)
    with pytest.raises(CheckpointError, match=r"0\.0\.expand\.weight': expected float \(8, 2\), found .*\(8, 3\)"):
        load_encoder(target, state)
    assert unchanged(target, before)


def test_missing_key_is_an_error_and_changes_nothing() -> None:
    target = reid()
    before = snapshot(target)
    state = encoder_state(autoencoder())
    del state["stages.3.0.norm.bias"]
    with pytest.raises(CheckpointError, match=r"lack 1 of 52 keys: stages\.3\.0\.norm\.bias"):
        load_encoder(target, state)
    assert unchanged(target, before)


def test_left_over_keys_are_reported() -> None:
    state = encoder_state(autoencoder()) | {"stages.0.1.scale": torch.zeros(2)}
    report = load_encoder(reid(), state)
    assert report.left_over == ("stages.0.1.scale",)
    assert report.summary() == "52 taken, 0 missing, 1 left over (stages.0.1.scale), 0 mismatched"


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(number: float) -> None:
    target = reid()
    before = snapshot(target)
    state = encoder_state(autoencoder())
    state["stages.1.0.scale"] = torch.full((3,), number)
    with pytest.raises(CheckpointError, match=r"stages\.1\.0\.scale.* not finite"):
        load_encoder(target, state)
    assert unchanged(target, before)


def test_integers_given_for_weights_are_refused() -> None:
    state = encoder_state(autoencoder())
    state["stages.1.0.scale"] = torch.ones(3, dtype=torch.int64)
    with pytest.raises(CheckpointError, match=r"expected float \(3,\), found int64 \(3,\)"):
        load_encoder(reid(), state)


def test_half_precision_weights_are_taken() -> None:
    state = {key: value.half() for key, value in encoder_state(autoencoder()).items()}
    target = reid()
    load_encoder(target, state)
    assert target.encoder.state_dict()["stages.1.0.scale"].dtype == torch.float32
    assert torch.equal(target.encoder.state_dict()["stages.1.0.scale"], state["stages.1.0.scale"].float())


def test_whole_network_round_trip() -> None:
    source, target = reid(1), reid(2)
    report = load_model(target, snapshot(source))
    assert len(report.taken) == len(source.state_dict())
    assert unchanged(target, snapshot(source))


def test_network_for_inference_leaves_the_classifier_over_and_nothing_else() -> None:
    source, target = reid(1), reid(2, num_classes=None)
    assert load_model(target, snapshot(source)).left_over == ("classifier.weight",)
    with pytest.raises(CheckpointError, match="no place for: extra"):
        load_model(target, snapshot(source) | {"extra": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="no place for: norm"):
        load_model(target, snapshot(autoencoder()))


def test_wrong_number_of_classes_is_a_mismatch() -> None:
    with pytest.raises(CheckpointError, match=r"'classifier\.weight': expected float \(4, 6\), found float \(3, 6\)"):
        load_model(reid(num_classes=4), snapshot(reid()))


def test_compare_keys_sorts_every_key() -> None:
    expected = {"a": torch.zeros(1), "b": torch.zeros(2), "c": torch.zeros(3)}
    report = compare_keys(expected, {"b": torch.zeros(2), "c": torch.zeros(4), "d": torch.zeros(1)})
    assert (report.taken, report.missing, report.left_over) == (("b",), ("a",), ("d",))
    assert report.mismatched == (Mismatch("c", "float (3,)", "float (4,)"),)
    assert report.summary() == "1 taken, 1 missing (a), 1 left over (d), 1 mismatched (c)"
