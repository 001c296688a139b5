"""The verb ``serve``."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prsnet.config import Check, check_fields
from prsnet.errors import ConfigError, InputError

if TYPE_CHECKING:
    from prsnet.service.settings import Settings

TOKEN_VARIABLE = "PRSNET_TOKEN"
"""Environment variable that may hold one token instead of a file."""
NEEDED = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Serve a gallery over HTTP."""

    gallery: str = ""
    """The gallery's folder."""
    model: str | None = None
    """Where the gallery's model lies, if not where it was when the gallery was made."""
    host: str = "127.0.0.1"
    """Address to listen on; any but this machine's own needs tokens."""
    port: int = 8765
    """Port to listen on; 0 takes a free one."""
    tokens: str | None = None
    """File with a line `name: token` for everybody who may ask; the environment's PRSNET_TOKEN can hold a single one.
    Not given: everybody on this machine may."""
    max_mib: float = 32.0
    """Largest body of a request in MiB."""
    max_megapixels: float = 16.0
    """Largest image in millions of pixels."""
    max_images: int = 32
    """Images in one request."""
    rate: float = 50.0
    """Requests per second and client on average."""
    batch_size: int = 32
    """Images per forward pass; requests that wait at the same time share one."""
    grace: int = 20
    """Seconds that requests get to finish when the service is told to stop."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""

    def __post_init__(self) -> None:
        positive = ("max_mib", "max_megapixels", "max_images", "rate", "batch_size", "grace")
        checks: Iterable[Check] = (
            ("gallery", bool, "the gallery's folder"),
            ("port", lambda v: 0 <= v < 65536, "0 to 65535"),
            *((name, lambda v: v > 0, "more than 0") for name in positive),
        )
        check_fields(self, checks)


def serve(config: ServeConfig) -> None:
    """Run ``prsnet serve`` until SIGINT or SIGTERM."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(f"serve needs {', '.join(missing)}", hint="pip install 'prsnet[serve]'")
    import uvicorn

    from prsnet.cli.gallery import embedder_of, open_gallery
    from prsnet.service.app import create_app
    from prsnet.service.listening import listen

    settings = settings_of(config)
    gallery = open_gallery(config.gallery)
    try:
        app = create_app(gallery, embedder_of(gallery, config.model, config.device), settings)
        socket = listen(config.host, config.port)
    except BaseException:
        gallery.close()
        raise
    host, port = socket.getsockname()[:2]
    print(f"{config.gallery}: http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=config.grace,
            limit_concurrency=512,
        )
    )
    # uvicorn stops gracefully at SIGTERM and then raises it again; being told to stop is no failure.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    server.run(sockets=[socket])


def settings_of(config: ServeConfig) -> Settings:
    """Return the service's settings; raises InputError where strangers could reach it without a token."""
    from prsnet.service.settings import Limits, Settings, check_token, is_local, read_tokens

    tokens = {} if config.tokens is None else read_tokens(config.tokens)
    single = os.environ.get(TOKEN_VARIABLE, "")
    if single:
        tokens[check_token(single, TOKEN_VARIABLE)] = TOKEN_VARIABLE
    if not tokens and not is_local(config.host):
        hint = f"give --tokens FILE or {TOKEN_VARIABLE}, or listen on 127.0.0.1"
        raise InputError(f"--host {config.host}: others could search and delete without a token", hint=hint)
    limits = Limits(
        bytes=round(config.max_mib * 2**20),
        pixels=round(config.max_megapixels * 1e6),
        images=config.max_images,
        rate=config.rate,
        batch=config.batch_size,
    )
    return Settings(limits=limits, tokens=tokens)
