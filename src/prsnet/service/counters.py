"""Figures for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Counters:
    """The figures of one service; each service has a registry of its own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        names = ["route", "method", "status"]
        self.requests = Counter("prsnet_requests", "Requests answered.", names, registry=self._registry)
        self.seconds = Histogram(
            "prsnet_request_seconds", "Time to answer.", ["route"], buckets=_SECONDS, registry=self._registry
        )
        self.batches = Histogram(
            "prsnet_embed_batch_images", "Images per forward pass.", buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=self._registry,
        )  # fmt: skip
        self.added = Counter("prsnet_sightings_added", "Sightings added.", registry=self._registry)
        self.deleted = Counter("prsnet_sightings_deleted", "Sightings deleted.", registry=self._registry)

    def text(self) -> bytes:
        """Return all figures in Prometheus' text format."""
        return generate_latest(self._registry)
