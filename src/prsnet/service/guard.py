"""Who may ask, and how often."""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from starlette.requests import Request

from prsnet.service.settings import Settings

MAX_CLIENTS = 10_000
"""Clients whose rate is remembered; the one longest silent is forgotten first."""
LOCAL = "local"
"""Who asks where there are no tokens."""


class Refused(Exception):
    """A request that is not answered.

    Args:
        status: the HTTP status.
        message: one line.
        headers: further headers of the answer.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, dict(headers or {})


class Guard:
    """Tells who asks; refuses strangers, pages of strangers, and whoever asks too often.

    Args:
        settings: tokens, hosts, rate.
        clock: seconds that only rise.
    """

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._owners = {hashlib.sha256(token.encode()).digest(): name for token, name in settings.tokens.items()}
        self._hosts, self._rate, self._clock = settings.hosts, settings.limits.rate, clock
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def admit(self, request: Request) -> str:
        """Return the name of who asks; raises :class:`Refused`."""
        address = request.client.host if request.client else "unknown"
        if not self._owners:
            self._refuse_foreign_pages(request)
            self._slow_down(address)
            return LOCAL
        self._slow_down(address)
        name = self._owner(request.headers.get("authorization", ""))
        if name is None:
            challenge = {"WWW-Authenticate": "Bearer"}
            raise Refused(401, "a token is needed: Authorization: Bearer TOKEN", challenge)
        return name

    def _owner(self, header: str) -> str | None:
        scheme, _, token = header.partition(" ")
        digest = hashlib.sha256(token.strip().encode("utf-8", "replace")).digest()
        found = [name for known, name in self._owners.items() if hmac.compare_digest(known, digest)]
        return found[0] if found and scheme.lower() == "bearer" else None

    def _refuse_foreign_pages(self, request: Request) -> None:
        """A browser tells the name that it looked up and the page that asks: both must be this service."""
        host = request.headers.get("host", "")
        if host_name(host) not in self._hosts:
            raise Refused(400, f"host {host[:80]!r} is not served here, expected localhost")
        origin = request.headers.get("origin")
        if origin is not None and origin != f"{request.url.scheme}://{host}":
            raise Refused(403, f"requests of pages from {origin[:80]!r} are not answered")

    def _slow_down(self, client: str) -> None:
        """One token bucket per client: it holds two seconds' worth and fills at the rate."""
        full, now = max(1.0, 2 * self._rate), self._clock()
        with self._lock:
            level, last = self._buckets.pop(client, (full, now))
            level = min(full, level + (now - last) * self._rate)
            allowed = level >= 1
            self._buckets[client] = (level - 1 if allowed else level, now)
            if len(self._buckets) > MAX_CLIENTS:
                self._buckets.popitem(last=False)
        if not allowed:
            wait = {"Retry-After": str(max(1, round((1 - level) / self._rate)))}
            raise Refused(429, f"more than {self._rate:g} requests per second", wait)


def host_name(host: str) -> str:
    """Return the name in a Host header, without port and without the brackets of an IPv6 address."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
