"""Pictures: curves and charts, sheets of images. Each is a PNG with the drawn data as JSON beside it."""

from prsnet.figures.charts import draw_average_precision, draw_camera_pairs, draw_cmc, draw_roc, draw_similarities
from prsnet.figures.curves import draw_curves
from prsnet.figures.ranks import choose_queries, draw_ranks, rank_lists
from prsnet.figures.reconstruction import draw_reconstructions

__all__ = [
    "choose_queries",
    "draw_average_precision",
    "draw_camera_pairs",
    "draw_cmc",
    "draw_curves",
    "draw_ranks",
    "draw_reconstructions",
    "draw_roc",
    "draw_similarities",
    "rank_lists",
]
