"""Evaluation of models: feature extractors, reference statistics, the pipeline, and the protocol of scores.

``__init__.pyi`` lists the public names. They are loaded on first use: `Protocol` without torch.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
