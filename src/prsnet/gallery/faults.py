"""Errors that those who serve a gallery to others have to tell apart from a wrong question."""

from __future__ import annotations

from prsnet.errors import DataError, InputError


class NoSuchSighting(InputError):
    """An id that is not in the gallery, or whose sighting is older than the retention allows."""


class GalleryUnavailable(InputError):
    """The store or its log cannot be used now: locked by others, disk full, closed, no permission."""


class GalleryDamaged(DataError):
    """The store's files are damaged or not a gallery's."""
