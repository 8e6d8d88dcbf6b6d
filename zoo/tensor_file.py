"""Tensors as the content of a safetensors file, without a copy of them in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["tensor_bytes", "tensor_file"]

_DTYPES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""Types that a file can hold, in the order in which safetensors stores them."""


def tensor_file(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> list[bytes | memoryview]:
    """The bytes of ``safetensors.torch.save``, which holds two copies of them in memory.

    Args:
        tensors: Contiguous tensors on the CPU, by name.
        metadata: Texts by name. safetensors stores several in an arbitrary order, this function in theirs.

    Returns:
        The header, and the memory of each tensor.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    types, end = list(_DTYPES), 0
    names = sorted(tensors, key=lambda name: (types.index(tensors[name].dtype), name))
    for name in names:
        value, begin = tensors[name], end
        end += value.nbytes
        header[name] = {"dtype": _DTYPES[value.dtype], "shape": list(value.shape), "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return [len(text).to_bytes(8, "little") + text, *(tensor_bytes(tensors[name]) for name in names)]


def tensor_bytes(value: Tensor) -> memoryview:
    """The memory of a contiguous tensor on the CPU."""
    return value.contiguous().reshape(-1).view(torch.uint8).numpy().data
