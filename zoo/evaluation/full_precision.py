"""Full float32: what a score is computed in, whatever the training chose."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["full_precision"]


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Inside, float32 products are float32 products: no TF32, no bfloat16, whatever the training chose."""
    root: Any = torch.backends
    backends = (root.cuda.matmul, root.cudnn.conv, root.mkldnn.matmul, root.mkldnn.conv)
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision
