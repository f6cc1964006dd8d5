"""PiSSA: the factors start at the principal singular values of the weight.

W = U S V^T; A = S_r^(1/2) V_r^T and B = U_r S_r^(1/2) are trained, and the rest of W is frozen
(Meng et al. 2024, equations 2 to 4). Here W itself stays, and the update is the difference to the
start, s (B A - B0 A0), which is the same function.
"""

from __future__ import annotations

import torch
from torch import Tensor


def factors(weight: Tensor, rank: int, scale: float) -> tuple[Tensor, Tensor]:
    """A (rank, in) and B (out, rank) with scale * B A the best approximation of W of that rank."""
    U, S, Vh = torch.linalg.svd(weight, full_matrices=False)
    root = (S[:rank] / abs(scale)).sqrt()
    A, B = root[:, None] * Vh[:rank], U[:, :rank] * root
    return A, B if scale > 0 else -B
