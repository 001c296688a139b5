"""Datasets on disk, recognised by what is in them; each layout is a short declaration over shared parsing."""

from prsnet.data.layouts.declaration import Layout
from prsnet.data.layouts.recognition import LAYOUTS, load_dataset, load_images_only, recognise
from prsnet.data.splits import hold_out

__all__ = ["LAYOUTS", "Layout", "hold_out", "load_dataset", "load_images_only", "recognise"]
