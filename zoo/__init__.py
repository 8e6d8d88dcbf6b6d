"""Reference implementations of models that combine variational autoencoders and adversarial training.

This module has all public names; plugins need no other import. ``__init__.pyi`` lists them. They are loaded on first
use, so that ``import zoo`` does not import torch.

>>> import zoo
>>> zoo.__version__.count(".")
2
"""

from __future__ import annotations

import lazy_loader

from zoo.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
