"""Pictures: curves and charts, sheets of images. Each is a PNG with the drawn data as JSON beside it."""

from prsnet.figures.curves import draw_curves

__all__ = ["draw_curves"]
