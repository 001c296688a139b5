"""The completion script, run by a real shell."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from prsnet.cli.completion import script
from prsnet.cli.main import VERBS, main

BASH = shutil.which("bash")
ZSH = shutil.which("zsh")


def complete(words: list[str], folder: Path) -> list[str]:
    """Return what bash offers for the last of ``words``; no word of the script may run anything."""
    assert BASH is not None
    ask = 'source ./completion; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _prsnet; printf "%s\\n" "${COMPREPLY[@]}"'
    (folder / "completion").write_text(script(VERBS, "bash"))
    done = subprocess.run(
        [BASH, "--norc", "-euo", "pipefail", "-c", ask, "bash", *words], cwd=folder, capture_output=True, text=True
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(BASH is None, reason="no bash")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["prsnet", "tr"], {"train"}),
        (["prsnet", "ev"], {"evaluate"}),
        (["prsnet", "train", "--lo"], {"--loss"}),
        (["prsnet", "train", "x", "--loss", "m"], {"mctl", "mctl-raw-query"}),
        (["prsnet", "train", "x", "--no-t"], {"--no-tensorboard"}),
        (["prsnet", "pretrain", "--crop"], {"--crop-area"}),
        (["prsnet", "data", "sy"], {"synth"}),
        (["prsnet", "data", "synth", "out", "--image-f"], {"--image-format"}),
        (["prsnet", "data", "synth", "out", "--image-format", ""], {"jpg", "png"}),
        (["prsnet", "completion", ""], {"bash", "zsh"}),
        (["prsnet", "evaluate", "--learning"], set()),
        (["prsnet", "train", "--out", "anything"], set()),
    ],
)
def test_bash_completes(words: list[str], expected: set[str], tmp_path: Path) -> None:
    assert set(complete(words, tmp_path)) == expected


@pytest.mark.skipif(BASH is None, reason="no bash")
def test_bash_offers_every_verb_and_every_flag(tmp_path: Path) -> None:
    assert {verb.name.split()[0] for verb in VERBS} <= set(complete(["prsnet", ""], tmp_path))
    flags = complete(["prsnet", "train", "-"], tmp_path)
    assert {"--epochs", "--config", "--print-config", "--help", "--mask-ratio"} <= set(flags)
    assert "--data" not in flags, "given by position"
    assert len(flags) == len(set(flags))


@pytest.mark.skipif(BASH is None, reason="no bash")
def test_bash_is_told_to_complete_the_rest_as_files(tmp_path: Path) -> None:
    assert BASH is not None
    (tmp_path / "completion").write_text(script(VERBS, "bash"))
    asked = "source ./completion; complete -p prsnet"
    done = subprocess.run([BASH, "--norc", "-c", asked], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout.strip() == "complete -o default -F _prsnet prsnet"


@pytest.mark.skipif(ZSH is None, reason="no zsh")
def test_zsh_takes_the_script(tmp_path: Path) -> None:
    assert ZSH is not None
    (tmp_path / "completion").write_text("autoload -U compinit && compinit -u\n" + script(VERBS, "zsh"))
    done = subprocess.run([ZSH, "-f", "-c", "source ./completion; whence _prsnet"], cwd=tmp_path, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_verb_prints_the_script(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion"]) == 0
    assert capsys.readouterr().out == script(VERBS, "bash")
    assert main(["completion", "zsh"]) == 0
    assert capsys.readouterr().out == "autoload -U +X bashcompinit && bashcompinit\n" + script(VERBS, "bash")
    assert main(["completion", "fish"]) == 2
    assert "expected bash or zsh, got 'fish'" in capsys.readouterr().err
