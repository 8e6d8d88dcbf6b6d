"""``zoo tune``: a search for the options of a model through Optuna, scored on held-out training images."""

from __future__ import annotations

from zoo.tune.search_space import Dimension, default_space, parse_search
from zoo.tune.study import Study, TrialRow, plan_study

__all__ = ["Dimension", "Study", "TrialRow", "default_space", "parse_search", "plan_study"]
