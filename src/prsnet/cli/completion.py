"""The verb ``completion``: a shell script made from the table of verbs and the fields of their settings."""

from __future__ import annotations

import shlex
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from prsnet.cli.main import VERBS, Verb, load
from prsnet.config import check_fields, without_none


@dataclass(frozen=True, kw_only=True)
class CompletionConfig:
    """Print a script that completes prsnet's commands: add `source <(prsnet completion bash)` to ~/.bashrc."""

    shell: Literal["bash", "zsh"] = "bash"
    """Shell that the script is for."""

    def __post_init__(self) -> None:
        check_fields(self, ())


def completion(config: CompletionConfig) -> None:
    """Run ``prsnet completion``."""
    print(script(VERBS, config.shell), end="")


def script(verbs: Iterable[Verb], shell: str) -> str:
    """Return the script: words of the commands, flags, and the values of flags that have a list of them.

    Everything else is completed as a file name.
    """
    verbs = list(verbs)
    families: dict[str, list[str]] = {}
    for verb in verbs:
        first, _, second = verb.name.partition(" ")
        families.setdefault(first, []).extend([second] if second else [])
    family_cases = {name: members for name, members in families.items() if members}
    choices = {f"{verb.name} {flag}": values for verb in verbs for flag, values in _choices(verb).items()}
    flags = {verb.name: _flags(verb) for verb in verbs}
    head = "autoload -U +X bashcompinit && bashcompinit\n" if shell == "zsh" else ""
    return head + _FUNCTION.format(
        first=" ".join(families),
        families="|".join(family_cases),
        members=_cases(family_cases, 16),
        choices=_cases(choices, 8),
        flags=_cases(flags, 12),
    )


# ${{...}} is the shell's, {...} ours. A word after a family is a command; a word that begins with - is a flag.
_FUNCTION = """\
_prsnet() {{
    local current="${{COMP_WORDS[COMP_CWORD]}}" previous="${{COMP_WORDS[COMP_CWORD-1]}}"
    local verb="${{COMP_WORDS[1]}}" words=""
    if [[ $COMP_CWORD -eq 1 ]]; then
        words="{first} --help --version"
    else
        case "$verb" in
        {families})
            if [[ $COMP_CWORD -eq 2 ]]; then
                case "$verb" in
{members}
                esac
            fi
            verb="$verb ${{COMP_WORDS[2]}}"
            ;;
        esac
        case "$verb $previous" in
{choices}
        esac
        if [[ -z $words && $current == -* ]]; then
            case "$verb" in
{flags}
            esac
        fi
    fi
    COMPREPLY=( $(compgen -W "$words" -- "$current") )
}}
complete -o default -F _prsnet prsnet
"""


def _cases(words: Mapping[str, Iterable[str]], indent: int) -> str:
    lines = [f"{shlex.quote(key)}) words={shlex.quote(' '.join(values))} ;;" for key, values in words.items()]
    return "\n".join(" " * indent + line for line in lines)


def _hints(verb: Verb) -> dict[str, Any]:
    """Return the flags of a verb with their types; what is given by position has no flag."""
    config_class = load(verb.config)
    hints = typing.get_type_hints(config_class)
    names = [field.name for field in fields(config_class) if field.name not in verb.positionals]
    return {f"--{name.replace('_', '-')}": without_none(hints[name]) for name in names}


def _flags(verb: Verb) -> list[str]:
    hints = _hints(verb)
    switches = [flag.replace("--", "--no-", 1) for flag, hint in hints.items() if hint is bool]
    return [*hints, *switches, "--config", "--print-config", "--help"]


def _choices(verb: Verb) -> dict[str, list[str]]:
    """Return the words after which a value of a list follows: flags, and the verb itself before a position."""
    hints = typing.get_type_hints(load(verb.config))
    first = {verb.name.split()[-1]: hints[name] for name in verb.positionals[:1]}
    lists = {word: hint for word, hint in {**first, **_hints(verb)}.items() if typing.get_origin(hint) is Literal}
    return {word: [str(value) for value in typing.get_args(hint)] for word, hint in lists.items()}
