"""What a service allows, and to whom."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from prsnet.errors import InputError

MIN_TOKEN = 16
"""Characters that a token must have at least: shorter ones can be guessed."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one request, or one client, may take.

    Attributes:
        bytes: body of a request.
        pixels: width times height of one image, judged by its header.
        images: images in one request.
        rate: requests per second and client on average; twice as many may come at once.
        pending: images that may wait to be embedded, over all clients.
        batch: images per forward pass.
        seconds: time that a client may take to send a body.
    """

    bytes: int = 32 * 2**20
    pixels: int = 16_000_000
    images: int = 32
    rate: float = 50.0
    pending: int = 512
    batch: int = 32
    seconds: float = 30.0


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a gallery is served.

    Attributes:
        limits: see :class:`Limits`.
        tokens: token -> name of its owner; empty: whoever reaches the address may do everything.
        hosts: names and addresses that a request may be addressed to where there are no tokens. A page of a stranger
            that a browser on this machine shows could otherwise reach the service under a name of its own.
    """

    limits: Limits = field(default_factory=Limits)
    tokens: Mapping[str, str] = field(default_factory=dict)
    hosts: frozenset[str] = frozenset({"localhost", "127.0.0.1", "::1"})


def is_local(host: str) -> bool:
    """Return whether an address to listen on can be reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_token(token: str, place: str) -> str:
    """Return a token; raises InputError, naming only ``place``, where it is too short or has odd characters."""
    if len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        hint = f"take at least {MIN_TOKEN} letters and digits, e.g. of `openssl rand -hex 32`"
        raise InputError(f"{place}: the token is too short or has odd characters", hint=hint)
    return token


def read_tokens(path: Path | str) -> dict[str, str]:
    """Return token -> owner from a file with lines ``name: token``; empty lines and ``#`` comments are passed over.

    Raises:
        InputError: the file cannot be read, a line is no such pair, a token is short or given twice.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise InputError(f"{path}: tokens cannot be read: {reason}", hint="check the path") from error
    tokens: dict[str, str] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, colon, token = (part.strip() for part in line.partition(":"))
        # The line itself is not shown: it may hold a secret.
        if not (name and colon):
            raise InputError(f"{path}: line {number} is no name and token", hint="write `name: token`")
        if check_token(token, f"{path}: line {number}") in tokens:
            raise InputError(f"{path}: line {number} repeats a token", hint="give everybody a token of their own")
        tokens[token] = name
    if not tokens:
        raise InputError(f"{path}: no token in the file", hint="write `name: token` lines")
    return tokens
