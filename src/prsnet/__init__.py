"""Person re-identification by masked pre-training and masked centroid triplets."""

from prsnet.version import __version__

__all__ = ["__version__"]
