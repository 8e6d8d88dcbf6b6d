"""zoo: the reference model zoo for networks that join variational autoencoders to adversarial training.

Every public name lives here; a plugin needs no other import. Which names there are, ``__init__.pyi`` says. They are
loaded on first use, so that ``import zoo`` does not import torch.

>>> import zoo
>>> zoo.__version__.count(".")
2
"""

from __future__ import annotations

import lazy_loader

from zoo.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
