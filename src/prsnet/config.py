"""The settings of each verb: frozen, documented field by field, checked all at once.

The command line's flags, the keys of a ``--config`` file and the fields below are the same names. ``None`` means
"what suits the preset"; :mod:`prsnet.training.defaults` fills it in, and the run folder records the result.
Only presets, training and the command line read these objects; every layer below takes plain keyword arguments.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import numbers
import os
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from prsnet.errors import ConfigError

Precision = Literal["auto", "fp32", "bf16", "fp16"]
LossName = Literal["mctl", "ctl", "triplet", "mctl-raw-query"]

Check = tuple[str, Callable[[Any], bool], str]

_positive: Callable[[Any], bool] = lambda v: v is None or v > 0  # noqa: E731 - one-liners read best side by side
_not_negative: Callable[[Any], bool] = lambda v: v is None or v >= 0  # noqa: E731
_fraction: Callable[[Any], bool] = lambda v: v is None or 0 <= v < 1  # noqa: E731
_share: Callable[[Any], bool] = lambda v: v is None or 0 <= v <= 1  # noqa: E731


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What both trainings share."""

    data: str = ""
    """Folder or CSV file with the images; known layouts are recognised."""
    out: str = ""
    """Run folder to write: settings, metrics, log, checkpoints."""
    preset: str = "nano"
    """Shape of the network and its schedule: pico, nano, tiny, small, hybrid-tiny, vit-base, ..."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels that images are resized to; the preset's when not given."""
    layout: str = "auto"
    """Layout of the data folder, when it shall not be recognised by its content."""
    split_seed: int = 0
    """Seed of the split into halves, for layouts without a split of their own, and of the held-out identities."""
    epochs: int | None = None
    """Passes over the data; the preset's when not given."""
    warmup_epochs: float | None = None
    """Epochs of linear warm-up of the learning rate from 0; the preset's when not given."""
    weight_decay: float | None = None
    """Weight decay of the optimiser; the preset's when not given."""
    clip_norm: float | None = None
    """Gradients are scaled down to this global norm; not given: never."""
    accumulate: int = 1
    """Batches whose gradients are averaged into one step of the optimiser."""
    precision: Precision = "auto"
    """Number format of the forward pass; auto: bf16 on a GPU that has it, fp32 elsewhere."""
    ema: float | None = None
    """Decay per step of an exponential moving average of the weights, e.g. 0.999; not given: none."""
    drop_path: float = 0.0
    """Probability that a residual block is skipped for an image (stochastic depth), growing linearly with depth."""
    mask_ratio: float = 0.75
    """Share of an image's patches that is hidden, 0..1."""
    seed: int = 0
    """Seed of everything random in the run."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    compile: bool = False
    """Compile the network with torch.compile: a slower start, faster steps on GPUs."""
    cache_gb: float | None = None
    """Memory for decoded images in GB; half of what is free when not given. What does not fit is decoded each time."""
    workers: int = 2
    """Threads that decode images."""
    save_every: int | None = None
    """Steps between saves of the state that --resume continues from; when not given, the ends of epochs, at most two a
    minute."""
    keep_every: int | None = None
    """Epochs between checkpoints that are kept beside the last and the best one; none when not given."""
    license: str = ""
    """Licence of the weights, written into the checkpoints, e.g. CC-BY-NC-SA-4.0."""
    resume: bool = False
    """Go on where the run in --out was stopped, bitwise; start it if it has not begun."""
    tensorboard: bool = True
    """Write TensorBoard events beside metrics.jsonl."""
    quiet: bool = False
    """No progress bar; the log keeps its lines."""

    def _checks(self) -> Iterable[Check]:
        return (
            ("data", bool, "a folder or a CSV file"),
            ("out", bool, "the run folder to write"),
            ("image_size", lambda v: v is None or min(v) > 0, "two positive numbers"),
            ("epochs", _positive, "at least 1"),
            ("warmup_epochs", _not_negative, "0 or more"),
            ("weight_decay", _not_negative, "0 or more"),
            ("clip_norm", _positive, "more than 0"),
            ("accumulate", _positive, "at least 1"),
            ("ema", lambda v: v is None or 0 < v < 1, "between 0 and 1"),
            ("drop_path", _fraction, "0 or more and below 1"),
            ("mask_ratio", _fraction, "0 or more and below 1"),
            ("cache_gb", _not_negative, "0 or more"),
            ("workers", _positive, "at least 1"),
            ("save_every", _positive, "at least 1"),
            ("keep_every", _positive, "at least 1"),
        )

    def __post_init__(self) -> None:
        check_fields(self, self._checks())


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunConfig):
    """Settings of masked pre-training (docs/method.md)."""

    init: str | None = None
    """Checkpoint or run to take the encoder's weights from; random when not given."""
    batch_size: int | None = None
    """Images per batch over all processes; the preset's when not given."""
    learning_rate: float | None = None
    """Learning rate for 256 images per step, scaled linearly with the images per step; the preset's when not given."""
    betas: tuple[float, float] = (0.9, 0.95)
    """AdamW's decay rates of the first and second moment."""
    normalise_targets: bool = False
    """Reconstruct each patch normalised by its own mean and deviation."""
    loss_over: Literal["hidden", "all"] = "hidden"
    """Patches that the loss is taken over."""
    crop_area: tuple[float, float] = (0.2, 1.0)
    """Smallest and largest share of the image that the random resized crop keeps."""
    hold_out: float = 0.05
    """Share of the images kept out of training to measure the reconstruction on; chooses the best checkpoint."""
    include_test: bool = False
    """Also take the query and gallery images of a benchmark; every model made from them is marked transductive."""

    def _checks(self) -> Iterable[Check]:
        return (
            *RunConfig._checks(self),
            ("batch_size", _positive, "at least 1"),
            ("learning_rate", _positive, "more than 0"),
            ("betas", lambda v: all(0 <= b < 1 for b in v), "two numbers, 0 or more and below 1"),
            ("mask_ratio", lambda v: 0 < v < 1, "more than 0, so that there is something to reconstruct"),
            ("crop_area", lambda v: 0 < v[0] <= v[1] <= 1, "smallest then largest share, in (0, 1]"),
            ("hold_out", _fraction, "0 or more and below 1"),
        )


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """Settings of fine-tuning for re-identification (docs/method.md)."""

    init: str | None = None
    """Pre-training run or checkpoint to take the encoder from; random weights when not given."""
    loss: LossName = "mctl"
    """mctl: masked centroid triplets; ctl: centroid triplets; triplet: neither; mctl-raw-query: the published form."""
    soft_margin: bool = False
    """Use log(1 + exp(ap - an)) in place of the margin."""
    margin: float = 0.5
    """Margin of both triplet losses."""
    identities: int | None = None
    """Identities per batch, P; the preset's, or all there are, when not given."""
    instances: int = 4
    """Images per identity in a batch, K."""
    learning_rate: float | None = None
    """Learning rate of Adam; the preset's when not given."""
    encoder_learning_rate: float | None = None
    """Learning rate of the encoder alone; the same as the rest when not given."""
    schedule: Literal["steps", "cosine"] | None = None
    """After the warm-up: a factor 0.1 at each milestone, or half a cosine to 0; the preset's when not given."""
    milestones: tuple[int, ...] | None = None
    """Epochs at which the learning rate falls to a tenth; the preset's when not given."""
    id_weight: float = 1.0
    """Weight of the identity cross-entropy."""
    triplet_weight: float = 1.0
    """Weight of the batch-hard triplet loss."""
    centroid_weight: float = 1.0
    """Weight of the (masked) centroid triplet loss."""
    center_weight: float = 5e-4
    """Weight of the center loss on the features."""
    center_learning_rate: float = 0.5
    """Learning rate of the SGD that moves the centres."""
    label_smoothing: float = 0.1
    """Share of the target that is spread over all identities."""
    flip: float = 0.5
    """Probability of a horizontal flip."""
    pad: int | None = None
    """Pixels of padding before the random crop; 10 per 256 pixels of height when not given."""
    erase: float | None = None
    """Probability of random erasing; the preset's when not given: 0.5, and 0 for pico and nano."""
    hold_out: float | None = None
    """Share of the training identities kept out to choose the best checkpoint on; 0: the last is the best.
    Not given: a tenth, none with fewer than 40 identities."""
    evaluate_every: int | None = None
    """Epochs between evaluations on the held-out identities; the preset's when not given."""

    def _checks(self) -> Iterable[Check]:
        weights = ("id_weight", "triplet_weight", "centroid_weight", "center_weight")
        return (
            *RunConfig._checks(self),
            *((name, _not_negative, "0 or more") for name in weights),
            ("margin", _not_negative, "0 or more"),
            ("identities", lambda v: v is None or v >= 2, "at least 2, so that there are negatives"),
            ("instances", lambda v: v >= 2, "at least 2, so that there are positives"),
            ("learning_rate", _positive, "more than 0"),
            ("encoder_learning_rate", _not_negative, "0 or more"),
            ("milestones", lambda v: v is None or list(v) == sorted(set(v)), "rising epochs"),
            ("center_learning_rate", _not_negative, "0 or more"),
            ("label_smoothing", _fraction, "0 or more and below 1"),
            ("flip", _share, "a probability, 0 to 1"),
            ("pad", _not_negative, "0 or more"),
            ("erase", _share, "a probability, 0 to 1"),
            ("hold_out", _fraction, "0 or more and below 1"),
            ("evaluate_every", _positive, "at least 1"),
        )


def check_fields(config: Any, checks: Iterable[Check]) -> None:
    """Raise one ConfigError that lists every field whose value has another type or is refused by its check.

    Lists become tuples, paths texts and NumPy's numbers plain ones, so that they may be given in Python.

    Args:
        config: a dataclass instance, frozen or not.
        checks: triples of field name, test of its value, and what was expected in words.
    """
    values = {field.name: _plain(getattr(config, field.name)) for field in dataclasses.fields(config)}
    for name, value in values.items():
        object.__setattr__(config, name, value)
    faults = type_faults(type(config), values)
    for name, is_good, expected in checks:
        value = getattr(config, name)
        if name not in faults and not is_good(value):
            shown = "not given" if value in ("", None) else f"got {value!r}"
            faults[name] = f"{name}: expected {expected}, {shown}"
    if faults:
        raise ConfigError("; ".join(faults.values()), hint="see --help for each option's meaning")


def type_faults(config_class: type, values: Mapping[str, Any]) -> dict[str, str]:
    """Return field name -> what is wrong, for the values that are not of their field's type."""
    hints = typing.get_type_hints(config_class)
    return {
        name: f"{name}: expected {expected_words(hints[name])}, got {value!r}"
        for name, value in values.items()
        if not _is_of(value, hints[name])
    }


def expected_words(hint: Any) -> str:
    """Return in words what a type hint of a config's field takes."""
    inner = without_none(hint)
    if typing.get_origin(inner) is Literal:
        return " or ".join(map(str, typing.get_args(inner)))
    if typing.get_origin(inner) is tuple:
        items = typing.get_args(inner)
        count = "" if items[-1] is Ellipsis else f"{len(items)} "
        return count + {int: "whole numbers", float: "numbers", str: "texts"}[items[0]]
    words = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    return words.get(inner, str(inner))


def without_none(hint: Any) -> Any:
    """Return T for ``T | None``, any other hint as it is."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        rest = [part for part in typing.get_args(hint) if part is not type(None)]
        return rest[0] if len(rest) == 1 else hint
    return hint


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (list, tuple)):
        return tuple(map(_plain, value))
    if isinstance(value, numbers.Number) and hasattr(value, "item"):  # NumPy's numbers have no JSON form
        return value.item()
    return value


def _is_of(value: Any, hint: Any) -> bool:
    """Return whether ``value`` is what the hint of a config's field says; a whole number is a number, too."""
    inner = without_none(hint)
    if value is None:
        return inner is not hint
    if typing.get_origin(inner) is Literal:
        return value in typing.get_args(inner)
    if typing.get_origin(inner) is tuple:
        items = typing.get_args(inner)
        kinds = items[:1] * len(value) if isinstance(value, tuple) and items[-1] is Ellipsis else items
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_is_of, value, kinds))
    if inner in (int, float):
        number = numbers.Integral if inner is int else numbers.Real
        return isinstance(value, number) and not isinstance(value, bool)
    return isinstance(value, inner)


def field_documentation(config_class: type) -> dict[str, str]:
    """Return the docstring that stands under each field of a config dataclass, bases included."""
    return _field_documentation(config_class)


@functools.cache
def _field_documentation(config_class: type) -> dict[str, str]:
    documentation: dict[str, str] = {}
    for cls in reversed(config_class.__mro__):
        if not dataclasses.is_dataclass(cls):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        assert isinstance(body, ast.ClassDef)
        for statement, following in zip(body.body, body.body[1:], strict=False):
            if (
                isinstance(statement, ast.AnnAssign)
                and isinstance(statement.target, ast.Name)
                and isinstance(following, ast.Expr)
                and isinstance(following.value, ast.Constant)
                and isinstance(following.value.value, str)
            ):
                documentation[statement.target.id] = inspect.cleandoc(following.value.value)
    return documentation
