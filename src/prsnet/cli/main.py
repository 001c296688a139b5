"""``prsnet VERB ...``: finds the verb, turns errors into one line and a hint, and sets the exit code.

Exit codes: 0 done, 1 a fault of ours, 2 the user's input, 130 interrupted. Nothing heavy is imported before the verb
is known, so that help and mistakes are answered at once.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from prsnet.errors import ConfigError, PrsnetError
from prsnet.version import __version__


@dataclass(frozen=True)
class Verb:
    """One command.

    Attributes:
        name: one word, or two for a family, e.g. ``"data synth"``.
        summary: one line for the help.
        config: ``module:Class`` of its settings.
        function: ``module:function`` that takes them.
        positionals: settings given by position.
    """

    name: str
    summary: str
    config: str
    function: str
    positionals: tuple[str, ...] = ()


VERBS = (
    Verb(
        "demo",
        "generate people, train, evaluate, draw everything: a few minutes on a CPU",
        "prsnet.cli.picture_options:DemoConfig",
        "prsnet.cli.demo:demo",
    ),
    Verb(
        "data synth",
        "generate pedestrians seen by several cameras",
        "prsnet.cli.options:SynthConfig",
        "prsnet.cli.data:synth",
        ("out",),
    ),
    Verb(
        "data check",
        "examine a dataset before training: counts, faults, leaks, a verdict per use",
        "prsnet.cli.data_options:CheckConfig",
        "prsnet.cli.data_verbs:check",
        ("data",),
    ),
    Verb(
        "data crops",
        "cut person crops out of annotated pictures: COCO, VOC, MOT, YOLO, CSV",
        "prsnet.cli.data_options:CropsConfig",
        "prsnet.cli.data_verbs:crops",
        ("data",),
    ),
    Verb(
        "data pool",
        "collect unlabelled images of any sources for pre-training, without broken, double or test images",
        "prsnet.cli.data_options:PoolConfig",
        "prsnet.cli.data_verbs:pool",
        ("sources",),
    ),
    Verb(
        "data combine",
        "make one training set of several datasets",
        "prsnet.cli.data_options:CombineConfig",
        "prsnet.cli.data_verbs:combine",
        ("sources",),
    ),
    Verb(
        "data pack",
        "decode a dataset once into one file at training size",
        "prsnet.cli.data_options:PackConfig",
        "prsnet.cli.data_verbs:pack",
        ("data",),
    ),
    Verb(
        "pretrain",
        "pre-train a network on unlabelled crops by reconstructing masked patches",
        "prsnet.config:PretrainConfig",
        "prsnet.cli.training:pretrain",
        ("data",),
    ),
    Verb(
        "train",
        "fine-tune a network for re-identification",
        "prsnet.config:TrainConfig",
        "prsnet.cli.training:train",
        ("data",),
    ),
    Verb(
        "evaluate",
        "measure a model on a dataset: mAP, CMC, mINP",
        "prsnet.cli.options:EvaluateConfig",
        "prsnet.cli.evaluating:evaluate",
        ("run", "data"),
    ),
    Verb(
        "reconstruct",
        "show what a pre-trained network paints where it sees nothing",
        "prsnet.cli.picture_options:ReconstructConfig",
        "prsnet.cli.pictures:reconstruct",
        ("run", "images"),
    ),
    Verb(
        "ranks",
        "show queries with their first answers, right and wrong ones marked",
        "prsnet.cli.picture_options:RanksConfig",
        "prsnet.cli.pictures:ranks",
        ("run", "data"),
    ),
    Verb(
        "compare",
        "compare two models on the same queries, with intervals",
        "prsnet.cli.options:CompareConfig",
        "prsnet.cli.evaluating:compare",
        ("first", "second"),
    ),
    Verb(
        "verify",
        "tell whether two images show the same person",
        "prsnet.cli.options:VerifyConfig",
        "prsnet.cli.verifying:verify",
        ("images",),
    ),
    Verb(
        "embed",
        "write the embeddings of images to a file",
        "prsnet.cli.gallery_options:EmbedConfig",
        "prsnet.cli.embedding:embed",
        ("run", "images"),
    ),
    Verb(
        "gallery create",
        "make an empty gallery for one model",
        "prsnet.cli.gallery_options:CreateConfig",
        "prsnet.cli.gallery:create",
        ("gallery",),
    ),
    Verb(
        "gallery add",
        "add images, datasets or embeddings to a gallery",
        "prsnet.cli.gallery_options:AddConfig",
        "prsnet.cli.gallery_add:add",
        ("gallery", "images"),
    ),
    Verb(
        "gallery search",
        "find the sightings most like one person",
        "prsnet.cli.gallery_options:SearchConfig",
        "prsnet.cli.gallery:search",
        ("gallery", "images"),
    ),
    Verb(
        "gallery delete",
        "delete sightings, their vectors and pictures for good",
        "prsnet.cli.gallery_options:DeleteConfig",
        "prsnet.cli.gallery:delete",
        ("gallery",),
    ),
    Verb(
        "gallery purge",
        "delete what is older than the retention allows",
        "prsnet.cli.gallery_options:PurgeConfig",
        "prsnet.cli.gallery:purge",
        ("gallery",),
    ),
    Verb(
        "gallery stats",
        "count what is in a gallery",
        "prsnet.cli.gallery_options:StatsConfig",
        "prsnet.cli.gallery:stats",
        ("gallery",),
    ),
    Verb(
        "gallery export",
        "write a gallery to a folder or zip of npz and JSON",
        "prsnet.cli.gallery_options:ExportConfig",
        "prsnet.cli.gallery:export",
        ("gallery", "out"),
    ),
    Verb(
        "gallery import",
        "add what `gallery export` wrote",
        "prsnet.cli.gallery_options:ImportConfig",
        "prsnet.cli.gallery:import_",
        ("gallery", "archive"),
    ),
    Verb(
        "serve",
        "serve a gallery over HTTP",
        "prsnet.cli.serving:ServeConfig",
        "prsnet.cli.serving:serve",
        ("gallery",),
    ),
    Verb(
        "completion",
        "print a script that completes these commands in bash or zsh",
        "prsnet.cli.completion:CompletionConfig",
        "prsnet.cli.completion:completion",
        ("shell",),
    ),
)


def entry() -> None:
    """Run the command line of the process; what the installed ``prsnet`` command calls."""
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Run one command; return its exit code."""
    try:
        code = _exit_code(list(argv))
        sys.stdout.flush()  # here, where a reader that went away is expected, and not at exit
    except BrokenPipeError:
        # The reader went away (`prsnet ... | head`): nothing is wrong, and nothing may be flushed at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return code


def _exit_code(argv: list[str]) -> int:
    try:
        return _run(argv)
    except PrsnetError as error:
        print(f"error: {_one_line(error.message)}", file=sys.stderr)
        if error.hint:
            print(f"hint: {_one_line(error.hint)}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1


def _run(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(overview())
        return 0 if argv else 2
    if argv[0] in ("-V", "--version"):
        print(f"prsnet {__version__}")
        return 0
    verb, rest = find_verb(argv)
    if verb is None:
        print(overview(argv[0]))
        return 0 if rest else 2
    from prsnet.cli.arguments import parse

    prog, summary = f"prsnet {verb.name}", verb.summary
    config = parse(load(verb.config), rest, prog=prog, positionals=verb.positionals, summary=summary)
    load(verb.function)(config)
    return 0


def find_verb(argv: Sequence[str]) -> tuple[Verb | None, list[str]]:
    """Return the verb that the arguments begin with and the arguments after it.

    A family alone, e.g. ``["data"]`` or ``["data", "--help"]``, gives None and what follows it.

    Raises:
        ConfigError: no such verb.
    """
    for verb in VERBS:
        words = verb.name.split()
        if list(argv[: len(words)]) == words:
            return verb, list(argv[len(words) :])
    families = {verb.name.split()[0] for verb in VERBS if " " in verb.name}
    if argv[0] in families and (len(argv) == 1 or argv[1] in ("-h", "--help")):
        return None, list(argv[1:])
    asked = " ".join(argv[:2]) if argv[0] in families else argv[0]
    names = [verb.name for verb in VERBS]
    near = difflib.get_close_matches(asked, names, n=1)
    hint = f"did you mean `prsnet {near[0]}`?" if near else f"verbs: {', '.join(names)}"
    raise ConfigError(f"unknown command {asked!r}", hint=hint)


def overview(family: str = "") -> str:
    """Return the help that lists the verbs, of one family or all."""
    shown = [verb for verb in VERBS if verb.name.split()[0] == family or not family]
    width = max(len(verb.name) for verb in shown)
    lines = [f"  {verb.name:<{width}}  {verb.summary}" for verb in shown]
    return "\n".join(
        [
            f"usage: prsnet {family + ' ' if family else ''}VERB ... [--help]",
            "",
            "Person re-identification: masked pre-training, centroid triplets, evaluation, search.",
            "",
            *lines,
            "",
            "`prsnet VERB --help` lists a verb's options.",
            "Exit codes: 0 done, 1 a fault of ours, 2 your input, 130 interrupted.",
        ]
    )


def load(place: str) -> Any:
    """Return what ``module:name`` names."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


def _one_line(text: str) -> str:
    return " ".join(text.split())
