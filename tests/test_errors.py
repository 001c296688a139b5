"""Errors that a user may meet, and the public names of the package."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

import prsnet
from prsnet import errors


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("PrsnetError", 1), ("TrainingError", 1), ("InputError", 2), ("DataError", 2), ("ConfigError", 2),
        ("CheckpointError", 2),
    ],
)  # fmt: skip
def test_errors_carry_hint_and_exit_code(kind: str, code: int) -> None:
    cls = getattr(prsnet, kind)
    assert cls is getattr(errors, kind) and issubclass(cls, errors.PrsnetError)
    error = cls("what", hint="do that")
    assert (error.message, error.hint, error.exit_code, str(error)) == ("what", "do that", code, "what (do that)")
    assert str(cls("what")) == "what"
    assert isinstance(error, ValueError) == (code == 2), "bad input is a ValueError to those who do not know us"


def test_every_public_name_is_there() -> None:
    assert len(set(prsnet.__all__)) == len(prsnet.__all__)
    for name in prsnet.__all__:
        assert not isinstance(getattr(prsnet, name), types.ModuleType), f"{name} is hidden by a module of that name"
    assert set(prsnet.__all__) <= set(dir(prsnet))
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = prsnet.nothing  # type: ignore[attr-defined]


def test_no_public_function_has_the_name_of_a_module() -> None:
    """``import prsnet.x`` puts the module x in the place of the name x."""
    import pkgutil

    modules = {module.name for module in pkgutil.iter_modules(prsnet.__path__)}
    assert not modules & set(prsnet.__all__)


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, prsnet; from prsnet import PrsnetError, PretrainConfig, TrainConfig; "
        "print([name for name in ('torch', 'numpy', 'PIL', 'scipy', 'yaml', 'tqdm') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_functions_stay_functions_whatever_is_imported() -> None:
    code = (
        "import prsnet.evaluation, prsnet.training.train, prsnet.training.pretrain, prsnet.embed, prsnet; "
        "print(all(callable(getattr(prsnet, name)) for name in ('evaluate', 'train', 'pretrain', 'Embedder')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("True\n", "")
