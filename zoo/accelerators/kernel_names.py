"""Names of the kernels."""

__all__ = ["KERNELS"]

KERNELS = ("linear", "deconvolution", "weight-gradient")
"""Matrix products by oneDNN, last deconvolutions as convolutions, bfloat16 weight gradients as products of patches."""
