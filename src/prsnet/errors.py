"""Errors that a user may meet: one clear line each, and a hint of what to do.

The command line turns every :class:`PrsnetError` into ``error: <message>`` and ``hint: <hint>`` without a traceback,
and leaves with :attr:`PrsnetError.exit_code`. Any other exception is a fault of ours and exits 1.
"""

from __future__ import annotations

from typing import ClassVar


class PrsnetError(Exception):
    """Base of all errors raised on purpose.

    Args:
        message: one line that names the offending value and what was expected.
        hint: one line that says what to do about it; may be empty.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class InputError(PrsnetError, ValueError):
    """The user's input cannot be used: a value, a file, a folder, a flag."""

    exit_code: ClassVar[int] = 2


class DataError(InputError):
    """Images, annotations or a dataset that cannot be read or cannot serve the purpose asked for."""


class ConfigError(InputError):
    """A configuration with unknown keys or values out of range; the message lists all faults at once."""


class CheckpointError(InputError):
    """A weights file or run folder that is missing, broken, or made for another architecture."""


class TrainingError(PrsnetError):
    """Training cannot go on, for example because the loss is not finite."""
