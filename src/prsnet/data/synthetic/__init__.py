"""Generated pedestrians: seeded people, seen by seeded cameras, as surveillance crops."""

from prsnet.data.synthetic.cameras import Camera, draw_camera
from prsnet.data.synthetic.dataset import Sighting, generate_people, write_dataset
from prsnet.data.synthetic.people import Identity, draw_identity
from prsnet.data.synthetic.render import render

__all__ = [
    "Camera",
    "Identity",
    "Sighting",
    "draw_camera",
    "draw_identity",
    "generate_people",
    "render",
    "write_dataset",
]
