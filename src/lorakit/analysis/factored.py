"""Low-rank changes as pairs of factors: cut to a rank without ever forming the full matrix.

With B = Q R and A^T = Q' R', the product B A is Q (R R'^T) Q'^T: its singular values are those of
the small matrix in the middle, at most as large as the rank of the factors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Spectrum:
    """A change U diag(S) V^T: U (out, r), S (r,) falling, V (in, r), all in float64.

    Fused experts have an axis before these, and the same rank each.
    """

    U: Tensor
    S: Tensor
    V: Tensor

    @classmethod
    def of(cls, A: Tensor, B: Tensor) -> Spectrum:
        """The singular values and vectors of B A, for A (r, in) and B (out, r)."""
        left, right = torch.linalg.qr(B.double()), torch.linalg.qr(A.double().mT)
        U, S, Vh = torch.linalg.svd(left.R @ right.R.mT, full_matrices=False)
        return cls(left.Q @ U, S, right.Q @ Vh.mT)

    @classmethod
    def of_dense(cls, change: Tensor) -> Spectrum:
        """The singular values and vectors of a full matrix (out, in)."""
        U, S, Vh = torch.linalg.svd(change.double(), full_matrices=False)
        return cls(U, S, Vh.mT)

    @property
    def values(self) -> Tensor:
        """The singular values (r,); of experts the root of their sum of squares, place by place."""
        return self.S if self.S.dim() == 1 else self.S.square().sum(0).sqrt()

    @property
    def cost(self) -> int:
        """Parameters that one more rank takes."""
        return self.U[..., :1].numel() + self.V[..., :1].numel()

    def rank_for(self, energy: float) -> int:
        """The smallest rank, at least 1, that keeps this share of the squared norm."""
        kept = self.values.square().cumsum(0)
        if not kept.numel() or float(kept[-1]) == 0:
            return 1
        # Rounding must not ask for one rank more than the exact sum would.
        enough = kept >= (energy - 1e-12) * kept[-1]
        return int(enough.to(torch.uint8).argmax()) + 1

    def cut(self, rank: int) -> tuple[Tensor, Tensor, float]:
        """A (rank, in) and B (out, rank) nearest to the change, and the relative error left.

        The error is Frobenius; by Eckart and Young (1936) no factors of that rank have less.
        """
        rank = min(rank, self.S.shape[-1])
        root = self.S[..., :rank].sqrt()
        A = root[..., :, None] * self.V[..., :rank].mT
        B = self.U[..., :rank] * root[..., None, :]
        size = float(self.S.norm())
        return A.float(), B.float(), float(self.S[..., rank:].norm()) / size if size else 0.0


def overlap(one: Tensor, two: Tensor) -> float:
    """How much of the smaller of two column spaces lies in the other: 0 none, 1 all of it.

    |Q1^T Q2|^2 / min(r1, r2), as in Hu et al. 2021, equation 4, for orthonormal columns.
    """
    smaller = min(one.shape[-1], two.shape[-1])
    shares = (one.mT @ two).square().sum((-2, -1)) / max(smaller, 1)
    return float(shares.mean()) if smaller else 0.0
