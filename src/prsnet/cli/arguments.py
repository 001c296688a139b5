"""A config dataclass becomes a parser: fields are flags, their docstrings the help, a file may give them too."""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from jsonargparse import ActionYesNo, ArgumentParser, Namespace

from prsnet.config import expected_words, field_documentation, type_faults, without_none
from prsnet.errors import ConfigError

ConfigT = TypeVar("ConfigT")


def parse(
    config_class: type[ConfigT], argv: Sequence[str], *, prog: str, positionals: Sequence[str], summary: str = ""
) -> ConfigT:
    """Return the config that the arguments ask for; what they leave open comes from a ``--config`` file, if given.

    Args:
        config_class: a frozen dataclass; see :mod:`prsnet.config`.
        argv: the arguments after the verb.
        prog: how the command is called, for the usage line.
        positionals: names of the fields that are given by position.
        summary: what the verb does, for its help.

    Raises:
        ConfigError: unknown flags or keys, values of the wrong type or out of range.
        SystemExit: after ``--help`` or ``--print-config``.
    """
    try:
        file = _config_file(argv)
        given = {} if file is None else read_settings(file, config_class)
        parser = make_parser(config_class, prog=prog, positionals=positionals, summary=summary, defaults=given)
        namespace = parser.parse_args(list(argv))
    except argparse.ArgumentError as error:
        raise _explained(str(error), config_class, prog) from error
    values = {name: _frozen(namespace[name]) for name in field_documentation(config_class)}
    config = config_class(**values)
    if namespace["print_config"]:
        print(yaml.safe_dump(_plain(namespace, config_class), sort_keys=False), end="")
        raise SystemExit(0)
    return config


def make_parser(
    config_class: type, *, prog: str, positionals: Sequence[str], summary: str, defaults: Mapping[str, Any]
) -> ArgumentParser:
    """Return the parser of a verb: every field of its config, ``--config`` and ``--print-config``."""
    usage = " ".join([prog, *(name.upper() for name in positionals), "[OPTION ...]"])
    parser = ArgumentParser(
        prog=prog,
        usage=usage,
        description=f"{summary[:1].upper()}{summary[1:]}.",
        formatter_class=argparse.HelpFormatter,
        exit_on_error=False,
        allow_abbrev=False,
    )
    documentation, hints = field_documentation(config_class), typing.get_type_hints(config_class)
    fields = {field.name: field for field in dataclasses.fields(config_class)}
    for name in [*positionals, *(name for name in fields if name not in positionals)]:
        default = defaults.get(name, fields[name].default)
        text = (" ".join(documentation[name].split()) + _default_words(default)).replace("%", "%%")
        _add(parser, name, hints[name], default, text, positional=name in positionals)
    parser.add_argument(
        "--config", metavar="FILE", help="YAML or JSON file with these options, e.g. a run's config.json"
    )
    parser.add_argument("--print-config", action="store_true", help="print all options as YAML and stop")
    return parser


def read_settings(file: Path, config_class: type) -> dict[str, Any]:
    """Return the settings of a YAML or JSON file; the keys are the config's fields, with ``_``.

    Raises:
        ConfigError: the file cannot be read, has keys that are no fields, or values of another type; all are named.
    """
    try:
        settings = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise ConfigError(f"--config {file}: cannot be read: {reason}", hint="check the path") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"--config {file}: not YAML: {' '.join(str(error).split())}", hint="mend the file") from error
    if not isinstance(settings, dict):
        got = "nothing" if settings is None else f"a {type(settings).__name__}"
        raise ConfigError(f"--config {file}: expected keys and values, got {got}", hint="write one `key: value` a line")
    settings.pop("verb", None)  # a run's config.json says which verb made it
    known = field_documentation(config_class)
    unknown = [str(key) for key in settings if key not in known]
    if unknown:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
        raise ConfigError(f"--config {file}: unknown keys {', '.join(map(repr, unknown))}", hint=hint)
    hints = typing.get_type_hints(config_class)
    values = {name: _of_file(value, hints[name]) for name, value in settings.items()}
    faults = type_faults(config_class, values)
    if faults:
        raise ConfigError(f"--config {file}: {'; '.join(faults.values())}", hint="mend the file")
    return values


def _of_file(value: Any, hint: Any) -> Any:
    """Return a YAML value as our types have it: lists are tuples, and 1e-3, which YAML takes for text, is a number."""
    inner = without_none(hint)
    if isinstance(value, list):
        items = typing.get_args(inner)
        return tuple(_of_file(item, items[0] if items else None) for item in value)
    if isinstance(value, str) and inner is float:
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _config_file(argv: Sequence[str]) -> Path | None:
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument("--config")
    file = finder.parse_known_args(list(argv))[0].config
    return Path(file) if file else None


def _add(parser: ArgumentParser, name: str, hint: Any, default: Any, text: str, *, positional: bool) -> None:
    """Add one field: several values where it is a tuple, a plain switch where it is a bool."""
    flag = name if positional else f"--{name.replace('_', '-')}"
    inner = without_none(hint)
    if inner is bool:
        parser.add_argument(flag, action=ActionYesNo(no_prefix="no-"), default=default, help=text)
        return
    options: dict[str, Any] = {"default": default, "help": text}
    if typing.get_origin(inner) is tuple:
        items = typing.get_args(inner)
        many = len(items) == 2 and items[1] is Ellipsis
        options["type"], options["nargs"] = items[0], ("*" if positional else "+") if many else len(items)
        options["default"] = None if default is None else list(default)
        metavar = "N" if items[0] is int else "X"
        options["metavar"] = name.upper() if many and positional else metavar if many else (metavar,) * len(items)
    else:
        options["type"] = hint
        choices = typing.get_args(inner) if typing.get_origin(inner) is typing.Literal else ()
        options["metavar"] = name.upper() if positional else f"{{{','.join(choices)}}}" if choices else _word(inner)
        if positional:
            options["nargs"] = "?"
    parser.add_argument(flag, **options)


def _default_words(default: Any) -> str:
    """Return the default for the help; what is off, empty or left to the preset says so in its own text."""
    if default is None or default is False or default in ("", ()):
        return ""
    shown = " ".join(map(str, default)) if isinstance(default, tuple) else "yes" if default is True else str(default)
    return f" [{shown}]"


def _frozen(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _plain(namespace: Namespace, config_class: type | None = None) -> dict[str, Any]:
    values = vars(namespace) if config_class is None else {n: namespace[n] for n in field_documentation(config_class)}
    return {name: value for name, value in values.items() if name not in ("config", "print_config")}


def _word(hint: Any) -> str:
    return {int: "N", float: "X", str: "TEXT"}.get(hint, "VALUE")


def _explained(message: str, config_class: type, prog: str) -> ConfigError:
    """Turn the parser's message, often of many lines, into one line that names value and expectation."""
    text, usage = " ".join(message.split()), f"see `{prog} --help`"
    hints = typing.get_type_hints(config_class)
    key = re.search(r'Parser key "(\w+)"', text)
    given = re.search(r"(?:Given value|Got value): (.*)$", text)
    if key and key[1] in hints:
        got = f", got {given[1]!r}" if given else ""
        return ConfigError(f"{key[1]}: expected {expected_words(hints[key[1]])}{got}", hint=usage)
    unknown = re.search(r"unrecognized arguments: (-*)([\w-]+)", text)
    if unknown:
        near = difflib.get_close_matches(unknown[2].replace("-", "_"), hints, n=1) if unknown[1] else []
        hint = f"did you mean --{near[0].replace('_', '-')}?" if near else usage
        return ConfigError(f"unknown argument {text.partition(': ')[2]!r}", hint=hint)
    return ConfigError(re.sub(r"^argument (\S+): ", r"\1: ", text), hint=usage)
