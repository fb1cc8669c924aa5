"""Large test problems made on the device, with PyTorch alone.

Clustered vectors, their approximate neighbors, P at a perplexity, and a PCA start, for
maps of millions of points on a machine that has nothing but PyTorch. Neighbors are
looked for among the rows near in a sorted order of the data: many true ones are missed,
which changes neither the sizes nor the work of a layout.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from napari_embed.arrays import Affinities

__all__ = ["clustered", "exact_force", "exact_kl", "nearest", "pca_start", "to_p"]

_BLOCK = 1024
_DIM = 16


def clustered(n: int, *, seed: int, device: str) -> torch.Tensor:
    """Return (n, 16) float32 vectors: clusters of some 2,000 in 20 groups, in order."""
    random = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random, device=device)

    count = max(4, n // 2000)
    group = torch.arange(count, device=device) * 20 // count
    centres = (normal(20, _DIM) * 8)[group] + normal(count, _DIM) * 2.5
    spread = 0.3 + 0.7 * torch.rand(count, generator=random, device=device)
    weights = 0.2 + torch.rand(count, generator=random, device=device)
    member = torch.multinomial(weights, n, replacement=True, generator=random)
    member = member.sort().values
    return centres[member] + normal(n, _DIM) * spread[member, None]


def nearest(x: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ids (int64) and squared distances of k near rows, searched in blocks.

    Each block of rows is compared with itself and the blocks beside it.
    """
    n = len(x)
    if n <= k:
        raise ValueError(f"{n} rows have no {k} neighbors each")
    ids = torch.empty((n, k), dtype=torch.int64, device=x.device)
    squared = torch.empty((n, k), dtype=torch.float32, device=x.device)
    for first in range(0, n, _BLOCK):
        last = min(n, first + _BLOCK)
        low, high = max(0, first - _BLOCK), min(n, last + _BLOCK)
        away = torch.cdist(x[first:last], x[low:high])
        own = torch.arange(last - first, device=x.device)
        away[own, own + first - low] = torch.inf
        found = away.topk(k, largest=False)
        ids[first:last] = found.indices + low
        squared[first:last] = found.values.square()
    return ids, squared


def to_p(ids: torch.Tensor, squared: torch.Tensor, perplexity: float) -> Affinities:
    """Return symmetric affinities: Gaussians of one perplexity, both ways averaged."""
    n, k = ids.shape
    weights = torch.cat(
        [_conditional(part, perplexity) for part in squared.split(1 << 18)]
    )
    rows = torch.arange(n, device=ids.device).repeat_interleave(k)
    keys = torch.cat([rows * n + ids.ravel(), ids.ravel() * n + rows])
    weights = weights.ravel().repeat(2) / (2 * n)
    del rows
    keys, order = keys.sort()
    weights = weights[order]
    del order
    first = torch.ones(len(keys), dtype=torch.bool, device=ids.device)
    first[1:] = keys[1:] != keys[:-1]
    place = first.cumsum(0) - 1
    keys = keys[first]
    values = torch.zeros(len(keys), device=ids.device)
    values.index_add_(0, place, weights)
    starts = torch.searchsorted(keys, torch.arange(n + 1, device=ids.device) * n)
    return Affinities(
        starts.cpu().numpy(),
        (keys % n).to(torch.int32).cpu().numpy(),
        values.cpu().numpy(),
    )


def _conditional(squared: torch.Tensor, perplexity: float) -> torch.Tensor:
    """Return p(j|i) by bisection over the precision of every row at once."""
    offset = squared - squared[:, :1]
    low = torch.zeros(len(squared), device=squared.device)
    high = torch.full_like(low, torch.inf)
    beta = 1 / offset.mean(1).clamp_min(1e-12)
    weights = offset
    for _ in range(40):
        weights = torch.exp(-offset * beta[:, None])
        total = weights.sum(1)
        entropy = total.log() + beta * (offset * weights).sum(1) / total
        wide = entropy > float(np.log(perplexity))
        low, high = torch.where(wide, beta, low), torch.where(wide, high, beta)
        beta = torch.where(high.isinf(), 2 * beta, (low + high) / 2)
    return weights / weights.sum(1, keepdim=True)


def pca_start(x: torch.Tensor, dim: int, *, seed: int) -> NDArray[np.float32]:
    """Return the first principal components, scaled to a spread of 1e-4, jittered."""
    centred = x.double() - x.double().mean(0)
    axes = torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -dim:].flip(1)
    start = centred @ axes
    start = (start / start[:, 0].std() * 1e-4).float().cpu().numpy()
    jitter = np.random.default_rng(seed).normal(size=start.shape) * 1e-6
    return np.asarray(start + jitter, np.float32)


def exact_force(
    positions: NDArray[np.float32], *, device: str
) -> tuple[torch.Tensor, float]:
    """Return R / Z of every point and Z, from all pairs in float64."""
    y = torch.from_numpy(positions).to(device, torch.float64)
    force, z = torch.zeros_like(y), 0.0
    for first in range(0, len(y), 512):
        part = y[first : first + 512]
        w = 1 / (1 + sum((part[:, k, None] - y[None, :, k]) ** 2 for k in _axes(y)))
        z += float(w.sum()) - len(part)
        for k in _axes(y):
            away = part[:, k, None] - y[None, :, k]
            force[first : first + 512, k] = (w * w * away).sum(1)
    return force / z, z


def exact_kl(p: Affinities, positions: NDArray[np.float32], *, device: str) -> float:
    """Return KL(P || Q) with Z from all pairs, in float64."""
    y = torch.from_numpy(positions).to(device, torch.float64)
    z = 0.0
    for first in range(0, len(y), 512):
        part = y[first : first + 512]
        w = 1 / (1 + sum((part[:, k, None] - y[None, :, k]) ** 2 for k in _axes(y)))
        z += float(w.sum()) - len(part)
    values = torch.from_numpy(p.values).to(device, torch.float64)
    rows = torch.repeat_interleave(
        torch.arange(len(y), device=device),
        torch.from_numpy(np.diff(p.indptr)).to(device),
    )
    columns = torch.from_numpy(p.indices).to(device).long()
    log_q = -torch.log1p((y[rows] - y[columns]).square().sum(1)) - float(np.log(z))
    terms = torch.where(values > 0, values * (values.log() - log_q), 0.0)
    return float(terms.sum())


def _axes(y: torch.Tensor) -> range:
    return range(y.shape[1])
