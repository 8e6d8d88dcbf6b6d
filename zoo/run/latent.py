"""Operations on codes: activity of their dimensions, traversals, interpolation, class means and 2-D embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.errors import UsageError
from zoo.run.trained import Labels, TrainedModel

__all__ = [
    "METHODS",
    "EmbeddingMethod",
    "class_mean",
    "decode_all",
    "embed",
    "interpolate",
    "measure_activity",
    "prior_codes",
    "traverse",
]

_ACTIVITY_DECODES = 2048
_BATCH = 500

EmbeddingMethod = Literal["pca", "tsne", "umap"]
METHODS: Mapping[EmbeddingMethod, str] = {"pca": "PCA", "tsne": "t-SNE", "umap": "UMAP"}
"""Methods of embedding, with their names in print."""


def prior_codes(trained: TrainedModel, n: int, seed: int) -> Tensor:
    """Draw codes (n, d) from the prior of a model, on its device; torch's global generator stays as it is."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return trained.objective.prior(torch.empty(0), n).to(trained.device)


def decode_all(trained: TrainedModel, z: Tensor, y: Labels = 0) -> Tensor:
    """Decode any number of codes (n, d) in batches to images (n, C, H, W) in [−1, 1].

    Args:
        trained: The model.
        z: The codes.
        y: Class of all images, or one per image, if the model is conditional.
    """
    return trained.decode(z, trained.only_if_conditional(y))


def measure_activity(trained: TrainedModel, *, seed: int = 0) -> Tensor:
    """Measure how much each dimension of the code changes the decoded images.

    A dimension that the decoder ignores, as after a posterior collapse, has an activity near 0.

    Args:
        trained: The model.
        seed: Seed of the codes around which dimensions vary.

    Returns:
        Activity (d,): root mean square of the difference of pixels in [−1, 1] between z_d = 1 and z_d = −1, over codes
        of the prior.
    """
    latent = prior_codes(trained, 1, seed).shape[1]
    n = max(1, min(16, _ACTIVITY_DECODES // (2 * latent)))
    z = prior_codes(trained, n, seed)
    activity = []
    for d in range(latent):
        pair = z.repeat(2, 1)
        pair[:n, d], pair[n:, d] = 1.0, -1.0
        images = decode_all(trained, pair)
        activity.append((images[:n] - images[n:]).square().mean().sqrt())
    return torch.stack(activity).cpu()


def traverse(z: Tensor, dims: Tensor | list[int], values: Tensor) -> Tensor:
    """Vary dimensions of a code one at a time.

    Args:
        z: The code, (d,).
        dims: Indices of the dimensions.
        values: Values that each of them takes, (s,).

    Returns:
        Codes (len(dims) · s, d), by dimension.

    >>> traverse(torch.tensor([5.0, 6.0]), [1], torch.tensor([-1.0, 1.0])).tolist()
    [[5.0, -1.0], [5.0, 1.0]]
    """
    rows = []
    for d in dims:
        row = z.repeat(len(values), 1)
        row[:, int(d)] = values
        rows.append(row)
    return torch.cat(rows)


def interpolate(a: Tensor, b: Tensor, t: Tensor, *, spherical: bool = False) -> Tensor:
    """Interpolate between codes.

    Linear interpolations of codes from N(0, I) pass through codes of small norm, which the prior hardly ever draws.
    Spherical interpolations (White, 2016, arXiv:1609.04468) keep to the arc between both codes. For codes that are
    parallel or zero, they are linear.

    Args:
        a: Codes (n, d) at t = 0.
        b: Codes (n, d) at t = 1.
        t: Positions (s,) in [0, 1].
        spherical: Interpolate on the arc.

    Returns:
        Codes (n, s, d).
    """
    a, b, t = a[:, None], b[:, None], t[None, :, None]
    linear = torch.lerp(a, b, t)
    if not spherical:
        return linear
    cosine = torch.nn.functional.cosine_similarity(a.double(), b.double(), dim=-1).clamp(-1, 1)[..., None]
    angle = torch.arccos(cosine)
    sine = torch.sin(angle)
    arc = (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / sine.clamp_min(1e-12)
    curved = (sine > 1e-4) & (a.norm(dim=-1, keepdim=True) > 0) & (b.norm(dim=-1, keepdim=True) > 0)
    return torch.where(curved, arc, linear.double()).to(a.dtype)


def class_mean(z: Tensor, labels: Tensor, label: int, name: str) -> Tensor:
    """Mean (d,) of the codes of a class.

    Args:
        z: Codes (n, d).
        labels: Labels (n,).
        label: The class.
        name: Its name, for errors.

    Raises:
        UsageError: If no code has the label.
    """
    chosen = z[labels.to(z.device) == label]
    if not len(chosen):
        raise UsageError(f"{name}: no image has this class; choose another")
    return chosen.mean(0)


def embed(z: Tensor, method: EmbeddingMethod = "pca", *, seed: int = 0) -> NDArray[np.float64]:
    """Embed codes in the plane.

    Args:
        z: Codes (n, d), at least 3.
        method: ``pca`` (first two principal components), ``tsne`` (scikit-learn) or ``umap`` (package umap-learn).
        seed: Seed of t-SNE and UMAP.

    Returns:
        Coordinates (n, 2); those of ``pca`` do not depend on the seed, and their signs are fixed.

    Raises:
        UsageError: If there are fewer than 3 codes, or umap-learn is not installed.
    """
    codes = z.detach().cpu().double().numpy()
    if len(codes) < 3:
        raise UsageError(f"embed: {len(codes)} codes are not enough; at least 3 are needed")
    if method == "pca":
        return _principal_components(codes)
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(codes) - 1) / 3)
        init: Any = _principal_components(codes)
        init = init / (init[:, 0].std() or 1.0) * 1e-4  # as scikit-learn scales its own
        found = TSNE(2, perplexity=perplexity, init=init, learning_rate="auto", random_state=seed).fit_transform(codes)
        return np.asarray(found, dtype=np.float64)
    try:
        from umap import UMAP
    except ImportError:
        raise UsageError("method: umap needs the package umap-learn; pip install umap-learn, or use tsne") from None
    neighbors = min(15, len(codes) - 1)
    return np.asarray(UMAP(n_neighbors=neighbors, random_state=seed).fit_transform(codes), dtype=np.float64)


def _principal_components(codes: NDArray[np.float64]) -> NDArray[np.float64]:
    centered = codes - codes.mean(0)
    _, _, axes = np.linalg.svd(centered, full_matrices=False)
    axes = axes[:2]
    largest = np.abs(axes).argmax(1)
    axes = axes * np.where(axes[np.arange(len(axes)), largest] < 0, -1.0, 1.0)[:, None]
    found = centered @ axes.T
    return np.pad(found, ((0, 0), (0, 2 - found.shape[1])))  # a code of one dimension
