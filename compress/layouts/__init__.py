"""Layouts: how each framework names and shapes the weights of a model. One layout, one file; see `known_layouts`."""

from .known_layouts import LAYOUTS, load_pointwise_teacher, load_ranking_teacher, load_teacher
from .recbole import recbole_item_ids
from .teacher import ItemItemTeacher, Layout, LoadOptions, PointwiseTeacher, Teacher

__all__ = [
    "LAYOUTS",
    "ItemItemTeacher",
    "Layout",
    "LoadOptions",
    "PointwiseTeacher",
    "Teacher",
    "load_pointwise_teacher",
    "load_ranking_teacher",
    "load_teacher",
    "recbole_item_ids",
]
