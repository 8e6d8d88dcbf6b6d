"""Evaluation that can be trusted: features, distances, likelihoods and the protocol that every number carries.

Which names there are, ``__init__.pyi`` says. They are loaded on first use: what a score means and which protocols
differ (`metric_of`, `Protocol`) can be asked without importing torch.
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
