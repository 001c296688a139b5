"""What every verb shares: help, exit codes, settings from files, what is imported when."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import typing
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml

from prsnet import PretrainConfig, TrainConfig
from prsnet.cli import main as command_line
from prsnet.cli.arguments import parse, read_settings
from prsnet.cli.main import VERBS, Verb, find_verb, load, main
from prsnet.config import field_documentation
from prsnet.errors import ConfigError
from prsnet.version import __version__

HEAVY = ("torch", "numpy", "jsonargparse", "yaml", "scipy", "PIL", "matplotlib", "tqdm")


def python(code: str) -> str:
    """Run code in a fresh interpreter; return what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("arguments", "code"), [("['--help']", 0), ("['--version']", 0), ("['frobnicate']", 2), ("[]", 2), ("['data']", 2)]
)
def test_help_and_mistakes_import_nothing_heavy(arguments: str, code: int) -> None:
    """An import budget in place of a stopwatch: without these, an answer takes a twentieth of a second."""
    printed = python(
        f"import sys; from prsnet.cli.main import main; code = main({arguments}); print(); "
        f"print(code, [name for name in {HEAVY} if name in sys.modules])"
    )
    assert printed.splitlines()[-1] == f"{code} []"


@pytest.mark.parametrize("verb", [verb.name for verb in VERBS])
def test_help_of_a_verb_imports_no_torch(verb: str) -> None:
    heavy = ("torch", "scipy", "matplotlib")
    printed = python(
        f"import sys; from prsnet.cli.main import main; code = main({[*verb.split(), '--help']}); print(); "
        f"print(code, [name for name in {heavy} if name in sys.modules])"
    )
    assert printed.splitlines()[-1] == "0 []"


def test_the_module_is_the_command(tmp_path: Path) -> None:
    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "prsnet", *arguments]
        return subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=120)

    assert command("--version").stdout == f"prsnet {__version__}\n"
    refused = command("train", "nowhere", "--out", "run", "--epochs", "-1")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.splitlines()[0] == "error: epochs: expected at least 1, got -1"


def test_no_argument_is_a_mistake_and_help_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert main(["--help"]) == 0
    first, second = capsys.readouterr().out.split("usage:")[1:]
    assert first.strip() == second.strip()
    assert all(verb.name in first and verb.summary in first for verb in VERBS)


def test_a_family_lists_its_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "data synth" in shown and "evaluate" not in shown
    assert main(["data"]) == 2


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_every_option_of_a_verb_is_documented(verb: Verb, capsys: pytest.CaptureFixture[str]) -> None:
    config = load(verb.config)
    assert main([*verb.name.split(), "--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for field in fields(config):
        flag = field.name.upper() if field.name in verb.positionals else f"--{field.name.replace('_', '-')}"
        assert flag in shown
        words = " ".join(field_documentation(config)[field.name].split())
        assert words[:40] in shown, f"{field.name}: {words}"


@pytest.mark.parametrize("verb", VERBS, ids=lambda verb: verb.name)
def test_what_the_table_of_verbs_names_is_there(verb: Verb) -> None:
    config, function = load(verb.config), load(verb.function)
    assert set(verb.positionals) <= {field.name for field in fields(config)}
    hints = typing.get_type_hints(function)
    assert next(iter(hints.values())) is config
    assert find_verb([*verb.name.split(), "x"]) == (verb, ["x"])


SETTINGS: dict[str, Any] = {
    "data": "people", "out": "run", "preset": "pico", "image_size": (64, 32), "epochs": 7, "learning_rate": 1e-3,
    "margin": 0.25, "milestones": (3, 5), "soft_margin": True, "tensorboard": False, "loss": "ctl", "init": "pre",
}  # fmt: skip
FLAGS = ["people", "--out", "run", "--preset", "pico", "--image-size", "64", "32", "--epochs", "7"]
FLAGS += ["--learning-rate", "1e-3", "--margin", "0.25", "--milestones", "3", "5", "--soft-margin", "--no-tensorboard"]
FLAGS += ["--loss", "ctl", "--init", "pre"]


def parsed(*argv: str) -> TrainConfig:
    return parse(TrainConfig, argv, prog="prsnet train", positionals=("data",))


def test_flags_file_and_python_are_the_same_settings(tmp_path: Path) -> None:
    expected = TrainConfig(**SETTINGS)
    assert parsed(*FLAGS) == expected
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in SETTINGS.items()}
    for name, text in (("a.yaml", yaml.safe_dump(plain)), ("a.json", json.dumps(plain))):
        (tmp_path / name).write_text(text)
        assert parsed("--config", str(tmp_path / name)) == expected
        assert parsed(f"--config={tmp_path / name}") == expected


def test_flags_go_before_the_file(tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text("epochs: 3\nsoft_margin: true\nimage_size: [96, 64]\nmargin: 1e-1\n")
    config = parsed("people", "--out", "run", "--epochs", "9", "--no-soft-margin", "--config", str(file))
    assert (config.epochs, config.soft_margin, config.image_size, config.margin) == (9, False, (96, 64), 0.1)
    assert config == parsed("--config", str(file), "--no-soft-margin", "people", "--epochs", "9", "--out", "run")


def test_printed_settings_can_be_given_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *FLAGS, "--print-config"]) == 0
    (tmp_path / "printed.yaml").write_text(capsys.readouterr().out)
    assert parsed("--config", str(tmp_path / "printed.yaml")) == TrainConfig(**SETTINGS)
    assert main(["train", *FLAGS, "--epochs", "0", "--print-config"]) == 2


def test_the_settings_of_a_run_start_it_again(
    tiny_trained: Path, tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recorded = json.loads((tiny_trained / "config.json").read_text())
    assert recorded["verb"] == "train"
    settings = read_settings(tiny_trained / "config.json", TrainConfig)
    assert set(settings) == {field.name for field in fields(TrainConfig)}, "every setting is recorded"
    assert None not in (settings["epochs"], settings["learning_rate"], settings["warmup_epochs"])
    again = tmp_path / "again"
    assert main(["train", "--config", str(tiny_trained / "config.json"), "--out", str(again)]) == 0
    for name in ("best", "last"):
        files = [run / "checkpoints" / f"{name}.safetensors" for run in (tiny_trained, again)]
        assert files[0].read_bytes() == files[1].read_bytes()


def test_a_run_tells_how_it_was_started(tiny_market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["pretrain", str(tiny_market), "--out", str(tmp_path / "a run"), "--preset", "pico", "--epochs", "1"]
    arguments += ["--image-size", "64", "32", "--no-tensorboard", "--batch-size", "8"]
    monkeypatch.setattr(sys, "argv", ["/usr/bin/prsnet", *arguments])
    assert main(arguments) == 0
    command = (tmp_path / "a run" / "command.txt").read_text()
    assert command.startswith("prsnet pretrain ") and f"--out '{tmp_path}/a run'" in command
    environment = json.loads((tmp_path / "a run" / "environment.json").read_text())
    assert environment["prsnet"] == __version__
    assert {"python", "torch", "numpy", "cores", "processor", "started"} <= set(environment)
    log = (tmp_path / "a run" / "log.txt").read_text().splitlines()
    assert "pre-training pico" in log[0] and "done: " in log[-1]
    assert (tmp_path / "a run" / "curves.png").exists()


@dataclass(frozen=True, kw_only=True)
class EveryKind:
    """A config with every kind of field.

    More text.
    """

    where: str = ""
    """A place."""
    many: tuple[str, ...] = ()
    """Several places, 100% of them."""
    pair: tuple[float, float] = (0.5, 1.0)
    """Two numbers."""
    choice: Literal["a", "b"] = "a"
    """One of two."""
    perhaps: Literal["c", "d"] | None = None
    """One of two, or nothing."""
    switch: bool = True
    """On or off."""
    count: int | None = None
    """A count."""


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        ([], {}),
        (["x"], {"where": "x"}),
        (["x", "--many", "y", "z"], {"where": "x", "many": ("y", "z")}),
        (["--pair", "1", "2e-1"], {"pair": (1.0, 0.2)}),
        (["--choice", "b", "--perhaps", "d"], {"choice": "b", "perhaps": "d"}),
        (["--no-switch", "--count", "-3"], {"switch": False, "count": -3}),
        (["--where-not"], None),
        (["--choice", "c"], None),
        (["--pair", "1", "x"], None),
        (["--perhaps", "e"], None),
        (["--count", "2.5"], None),
    ],
)
def test_every_kind_of_field_is_a_flag(argv: list[str], expected: Mapping[str, Any] | None) -> None:
    if expected is None:
        with pytest.raises(ConfigError):
            parse(EveryKind, argv, prog="prsnet x", positionals=("where",))
    else:
        found = parse(EveryKind, argv, prog="prsnet x", positionals=("where",))
        assert asdict(found) == {**asdict(EveryKind()), **expected}


@pytest.mark.parametrize(("argv", "expected"), [(["a", "b"], ("a", "b")), ([], ()), (["a"], ("a",))])
def test_several_values_by_position(argv: list[str], expected: tuple[str, ...]) -> None:
    assert parse(EveryKind, argv, prog="prsnet x", positionals=("many",)).many == expected


def test_a_fault_of_ours_is_no_user_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only errors raised on purpose become one line; a bug keeps its traceback."""

    def broken(argv: list[str]) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(command_line, "_run", broken)
    with pytest.raises(ZeroDivisionError):
        main(["train"])


def test_a_training_that_fails_exits_1_without_a_traceback(
    tiny_market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The loss overflows: no mistake in the input, so not 2."""
    flags = ["--preset", "pico", "--image-size", "64", "32", "--epochs", "3", "--no-tensorboard", "--batch-size", "8"]
    flags += ["--learning-rate", "1e30", "--warmup-epochs", "0", "--save-every", "1"]
    assert main(["pretrain", str(tiny_market), "--out", str(tmp_path / "run"), *flags]) == 1
    error, hint = capsys.readouterr().err.splitlines()[-2:]
    assert error.startswith("error: ") and "not finite at step" in error and "learning rate" in error
    assert "last good checkpoint" in error and hint.startswith("hint: start anew with a lower --learning-rate")


@pytest.mark.skipif(os.name != "posix", reason="a closed pipe is another error elsewhere")
def test_a_reader_that_goes_away_is_no_error() -> None:
    code = "import sys; from prsnet.cli.main import main; sys.exit(main(['train', '--help']))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0
    process.stderr.close()


def test_names_of_the_two_configs_do_not_drift() -> None:
    """What both trainings share means the same in both."""
    shared = {f.name for f in fields(PretrainConfig)} & {f.name for f in fields(TrainConfig)}
    hints = [typing.get_type_hints(config) for config in (PretrainConfig, TrainConfig)]
    assert {name for name in shared if hints[0][name] != hints[1][name]} == {"hold_out"}
