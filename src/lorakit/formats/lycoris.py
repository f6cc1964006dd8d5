"""LyCORIS' other products, LoHa, LoKr and Tucker, as factors of the very same change.

- LoHa (Hyeon-Woo et al. 2022, equation 2) is an elementwise product (B1 A1) * (B2 A2). Its entry is
  the sum over pairs (p, q) of B1_p B2_q A1_p A2_q: factors of rank r1 r2.
- LoKr is a Kronecker product W1 x W2; with W = B A for both it is (B1 x B2)(A1 x A2).
- A Tucker core t (r, r, *kernel) goes into A: A_p[i, k] = sum_q t[p, q, k] b[q, i].

Nothing is lost but the rounding of these products in float32. The ranks are high: `resize` cuts
them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lorakit.core.errors import AdapterFileError, UnsupportedError
from lorakit.core.state import LowRankState

SUFFIXES = {
    f".{name}": name
    for name in (
        "hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2",
        "lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2",
    )
} | {".lora_mid.weight": "mid"}  # fmt: skip
_KINDS = set(SUFFIXES.values())
_MOST = 2**26  # numbers in the factors of one module

Pair = tuple[Tensor, Tensor]  # A (rank, in * points), B (out, rank)


def is_product(parts: Mapping[str, Tensor]) -> bool:
    """Whether a module's tensors are one of these products."""
    return bool(parts.keys() & _KINDS)


def update_of(module: str, parts: Mapping[str, Tensor], where: str) -> LowRankState:
    """The update of one module; a kernel that the file has flattened is the base's to tell."""
    if "magnitude" in parts or "?" in parts:
        raise UnsupportedError(
            f"{where}: {module!r} mixes its product with DoRA or a whole tensor."
        )
    try:
        return _update(parts)
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise AdapterFileError(
            f"{where}: the factors of {module!r} do not go together ({error}). The file is damaged "
            "or not whole. Fetch it again."
        ) from error


def _update(parts: Mapping[str, Tensor]) -> LowRankState:
    parts = {name: value.float() for name, value in parts.items()}
    kernel: tuple[int, ...] = ()
    if "mid" in parts:
        A, B = _tucker(parts["mid"], parts["B"].flatten(1).T, parts["A"].flatten(1))
        kernel, dim = tuple(parts["mid"].shape[2:]), len(A)
    elif any(name.startswith("hada") for name in parts):
        if ("hada_t1" in parts) != ("hada_t2" in parts):
            raise ValueError("one product has a core and the other has none")
        one, two = (_hada(parts, place) for place in "12")
        (A, B), dim = _elementwise(one, two), parts["hada_w1_b"].shape[0]
        kernel = tuple(parts["hada_t1"].shape[2:]) if "hada_t1" in parts else ()
    else:
        one, two = _kron(parts, "1"), _kron(parts, "2")
        A, B = _small(torch.kron, one[0], two[0]), _small(torch.kron, one[1], two[1])
        held = [parts[name].shape[0] for name in ("lokr_w2_b", "lokr_w1_b") if name in parts]
        dim = held[0] if held else 0  # two whole matrices have no scale
        shaped = parts.get("lokr_t2", parts.get("lokr_w2"))
        kernel = () if shaped is None else tuple(shaped.shape[2:])
    if A.dim() != 2 or B.dim() != 2 or len(A) != B.shape[1] or not A.numel() or not B.numel():
        raise ValueError("a factor is empty, or no matrix")
    if 0 in kernel or A.shape[1] % math.prod(kernel):
        raise ValueError("the kernel does not fit")
    scale = float(parts["alpha"]) / dim if dim and "alpha" in parts else 1.0
    if not scale:
        raise ValueError("alpha is 0")
    flat = "" if not kernel else "convolution"
    return LowRankState(flat, A.contiguous(), B.contiguous(), scale * len(A), kernel)


def _hada(parts: Mapping[str, Tensor], place: str) -> Pair:
    left, right = parts[f"hada_w{place}_a"], parts[f"hada_w{place}_b"]
    core = parts.get(f"hada_t{place}")
    return (right, left) if core is None else _tucker(core, left, right)


def _kron(parts: Mapping[str, Tensor], place: str) -> Pair:
    whole = parts.get(f"lokr_w{place}")
    if whole is not None:
        others = (f"lokr_w{place}_", f"lokr_t{place}")
        if any(name.startswith(others) for name in parts):
            raise ValueError(f"W{place} is there whole and in factors")
        matrix = whole.flatten(1)
        rows, columns = matrix.shape
        # One factor is the matrix, the other the identity on its shorter side.
        small = rows <= columns
        return (matrix, torch.eye(rows)) if small else (torch.eye(columns), matrix)
    left, right = parts[f"lokr_w{place}_a"], parts[f"lokr_w{place}_b"]
    core = parts.get(f"lokr_t{place}")
    return (right.flatten(1), left) if core is None else _tucker(core, left, right)


def _tucker(core: Tensor, left: Tensor, right: Tensor) -> Pair:
    """A and B of a core (r, r, *kernel), outputs `left` (r, out) and inputs `right` (r, in)."""
    A = torch.einsum("pqk,qi->pik", core.flatten(2), right)
    return A.flatten(1), left.T


def _elementwise(one: Pair, two: Pair) -> Pair:
    A = _small(lambda x, y: (x[:, None] * y[None]).flatten(0, 1), one[0], two[0])
    B = _small(lambda x, y: (x[:, :, None] * y[:, None]).flatten(1), one[1], two[1])
    return A, B


def _small(product, one: Tensor, two: Tensor) -> Tensor:
    """The product, unless its factors would be out of all proportion to the file."""
    if len(one) * two.numel() > _MOST or one.numel() * len(two) > _MOST:
        raise ValueError("their product is too large")
    return product(one.contiguous(), two.contiguous())
