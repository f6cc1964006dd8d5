"""OLoRA: the factors start orthonormal, at the QR decomposition of the weight.

W = Q R; B = Q_r and A = R_r are trained (Buyukakyuz 2024, section 3). As for PiSSA, W itself stays,
and the update is the difference to the start.
"""

from __future__ import annotations

import torch
from torch import Tensor


def factors(weight: Tensor, rank: int, _: float) -> tuple[Tensor, Tensor]:
    """A (rank, in), upper triangular, and B (out, rank) with orthonormal columns."""
    Q, R = torch.linalg.qr(weight)
    return R[:rank], Q[:, :rank]
