"""Where a change lies in its layer's space: section 7 of Hu et al. 2021, in numbers.

Directions are orthonormal columns (size, r), the most important first. Everything is computed in
float64 from factors, so that no full change is ever formed unless it is given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lorakit.analysis.factored import Spectrum


@dataclass(frozen=True)
class Amplification:
    """How much a change strengthens what its layer's weight has along the change's directions.

    `change` is |dW|, `along` is |U^T W V| with U and V the change's own first `rank` singular
    directions, and the controls take those of W itself and random ones: table 7 of the paper.
    Frobenius norms all.
    """

    rank: int
    change: float
    weight: float
    along: float
    along_top: float
    along_random: float

    @property
    def factor(self) -> float:
        """|dW| / |U^T W V|, the amplification factor; infinite where W has nothing there."""
        return self.change / self.along if self.along else math.inf


def similarity(one: Tensor, two: Tensor) -> Tensor:
    """The normalised similarity of all leading subspaces, (r1, r2), each in 0 (none) to 1 (inside).

    Place (i - 1, j - 1) is phi(i, j) = |U_i^T V_j|^2 / min(i, j) for the first i directions of one
    and the first j of the other (Hu et al. 2021, equation 4).
    """
    shares = (one.double().mT @ two.double()).square().cumsum(0).cumsum(1)
    rows = torch.arange(1, shares.shape[0] + 1, device=shares.device)
    columns = torch.arange(1, shares.shape[1] + 1, device=shares.device)
    return (shares / torch.minimum(rows[:, None], columns[None, :])).clamp(0, 1)


def expected_similarity(size: int, i: int, j: int) -> float:
    """The mean of phi(i, j) for random subspaces of a space of `size` dimensions.

    E|U^T V|^2 = i j / size for independent uniform ones, so that phi is max(i, j) / size.
    """
    return max(i, j) / size


def directions(factor: Tensor) -> Tensor:
    """The right singular vectors of a factor (r, size) as columns, without those of rounding.

    For A they are what a layer's update listens to, as in figures 3 and 4 of the paper; for B give
    its transpose.
    """
    _, values, right = torch.linalg.svd(factor.double(), full_matrices=False)
    top = float(values.max()) if values.numel() else 0.0
    kept = int((values > top * 1e-6).sum()) if top else 0
    return right[:kept].mT


def random_directions(size: int, count: int, generator: torch.Generator) -> Tensor:
    """`count` orthonormal columns, uniform over all subspaces of the space."""
    drawn = torch.randn(size, count, dtype=torch.float64, generator=generator)
    return torch.linalg.qr(drawn).Q


def amplification(weight: Tensor, change: Spectrum, rank: int, *, seed: int = 0) -> Amplification:
    """Compare a change with its weight (out, in), along its first `rank` singular directions."""
    own = weight.detach().double().cpu()
    rank = min(rank, change.S.shape[-1])
    U, V = change.U[:, :rank], change.V[:, :rank]
    numbers = torch.Generator().manual_seed(seed)
    left, right = (random_directions(size, rank, numbers) for size in own.shape)
    top = torch.linalg.svdvals(own)[:rank]
    return Amplification(
        rank=rank,
        change=float(change.S.norm()),
        weight=float(own.norm()),
        along=float((U.mT @ own @ V).norm()),
        along_top=float(top.norm()),
        along_random=float((left.mT @ own @ right).norm()),
    )


def effective_rank(values: Tensor) -> float:
    """The entropy of singular values as a rank: e^H of their shares (Roy & Vetterli 2007)."""
    own = values.double()
    total = float(own.sum())
    if not total:
        return 0.0
    shares = own / total
    return float(torch.special.entr(shares).sum().exp())


def participation(values: Tensor) -> float:
    """How many singular values hold the squared norm: (sum s^2)^2 / sum s^4."""
    own = values.double()
    top = float(own.max()) if own.numel() else 0.0
    if not top:
        return 0.0
    squares = (own / top).square()
    return float(squares.sum().square() / squares.square().sum())
