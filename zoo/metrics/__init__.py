"""Metrics of generative models as `torchmetrics.Metric` objects, usable without the rest of zoo.

``__init__.pyi`` lists the public names. They are loaded on first use: `ScoreInfo` without torch.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
