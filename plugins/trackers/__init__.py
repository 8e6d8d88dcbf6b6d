"""Trackers for ``--tracker``: TensorBoard, MLflow and Weights & Biases.

Their libraries are imported when a run is tracked, not before.
"""
