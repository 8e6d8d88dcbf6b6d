"""Context manager that computes in full float32, whatever precision training used."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

__all__ = ["full_precision"]


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """Disable TF32 and bfloat16 for products of float32 tensors; restores the settings on exit."""
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
