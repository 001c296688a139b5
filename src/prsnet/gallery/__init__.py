"""A gallery of sightings: kept on disk, searched by similarity, and really forgotten when deleted."""

from prsnet.gallery.gallery import Gallery
from prsnet.gallery.sightings import NewSighting, Sighting, SightingFilter

__all__ = ["Gallery", "NewSighting", "Sighting", "SightingFilter"]
