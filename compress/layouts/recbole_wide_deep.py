"""Wide & Deep as RecBole 1.x saves it: the keys of DeepFM, see there."""

from __future__ import annotations

from ..checkpoint import Checkpoint
from ..models.wide_deep import WideDeep, WideDeepConfig
from .recbole_deepfm import knows, load_deep, matches
from .teacher import Layout, LoadOptions, PointwiseTeacher


def load(checkpoint: Checkpoint, options: LoadOptions) -> PointwiseTeacher:
    return load_deep(checkpoint, options, "WideDeep", WideDeep, WideDeepConfig, LAYOUT.name)


LAYOUT = Layout(
    name="recbole-wide-deep",
    matches=matches,
    knows=knows,
    load=load,
    model="WideDeep",
)
