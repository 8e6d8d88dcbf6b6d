"""Optional faster kernels for some torch layers, chosen by processor. Training is correct without them."""
