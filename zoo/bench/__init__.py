"""Benchmarks: grids of models, data sets and seeds under one protocol, on one machine or a cluster.

``__init__.pyi`` lists the public names. They are loaded on first use, so that the command line does not import torch.

>>> from zoo.bench import BenchProtocol
>>> BenchProtocol().label.partition("#")[0]
'quick@1'
"""

from __future__ import annotations

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
