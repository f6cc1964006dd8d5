"""Linear layers whose weight is kept in few bits: bitsandbytes' nf4, fp4, int8, torchao's int8.

The update adds to their output as to any linear layer's. What needs the weight itself (a merge, a
start at its principal values) takes it dequantised; it is never quantised again unless asked for.
The libraries are imported only where a layer of theirs is there already.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.core.errors import UnsupportedError
from lorakit.core.site import bare_copy, walk
from lorakit.layers.linear import LinearGeometry

_FOUR_BIT = "bitsandbytes.nn.modules.Linear4bit"


def settle(root: nn.Module, *, training: bool) -> None:
    """Let no 4-bit layer of the model rewrite its weight for inference on this CPU.

    bitsandbytes 0.50 does so in the first evaluation, where the CPU multiplies bfloat16 itself: the
    scales are rounded, and from then on no gradient passes. Raises `UnsupportedError` where it has
    and the model is for `training`.
    """
    layers: dict[str, Any] = {p: m for p, m in walk(root) if _name(m) == _FOUR_BIT}
    done = next((path for path, layer in layers.items() if _is_packed(layer)), None)
    if done is not None and training:
        raise UnsupportedError(
            f"bitsandbytes has packed the weight of {done!r} for inference on this CPU, and no "
            "gradient passes it any more. Load the base again and inject before it answers."
        )
    for layer in layers.values():
        layer.support_avx512bf16_for_cpu = False


@contextmanager
def settled(root: nn.Module, *, training: bool) -> Iterator[None]:
    """`settle`, taken back if the block raises."""
    kinds: list[Any] = [m for _, m in walk(root) if _name(m) == _FOUR_BIT]
    before = [(layer, layer.support_avx512bf16_for_cpu) for layer in kinds]
    settle(root, training=training)
    try:
        yield
    except BaseException:
        for layer, packs in before:
            layer.support_avx512bf16_for_cpu = packs
        raise


def _is_packed(layer: Any) -> bool:
    state = getattr(layer.weight, "quant_state", None)
    return bool(getattr(state, "packing_format_for_cpu", False))


def plain_linear(like: nn.Module, weight: nn.Parameter) -> nn.Linear:
    """A plain linear layer with this weight, and with the bias and sizes of another one."""
    assert isinstance(like, nn.Linear)
    plain = nn.Linear(1, 1, bias=False, device="meta")
    plain.in_features, plain.out_features = like.in_features, like.out_features
    plain.weight, plain.bias = weight, like.bias
    return plain.train(like.training)


class QuantisedGeometry(LinearGeometry):
    """What the three have in common: a plain linear layer can stand in their place."""

    quantised = True

    def closed(self, layer: nn.Module, weight: Tensor, *, again: bool) -> nn.Module:
        """A layer with this weight in the place of `layer`: a plain one, or quantised `again`."""
        if again:
            other = bare_copy(layer)
            self._quantise(other, weight)
            return other
        return plain_linear(layer, nn.Parameter(weight, requires_grad=False))

    def _quantise(self, layer: nn.Module, weight: Tensor) -> None:
        """Put the weight into a layer of the kind, quantised as that one's own is."""
        raise NotImplementedError


class FourBitGeometry(QuantisedGeometry):
    """bitsandbytes' Linear4bit: blocks of 64 weights share a scale (Dettmers et al. 2023)."""

    def accepts(self, layer: nn.Module) -> bool:
        return _name(layer) == _FOUR_BIT

    def matrix(self, layer: nn.Module) -> Tensor:
        from bitsandbytes.functional import dequantize_4bit

        weight: Any = layer.weight
        if getattr(weight, "quant_state", None) is None:
            raise UnsupportedError(
                "A Linear4bit's weight is not quantised yet. Move the model to its device first."
            )
        if _is_packed(layer):  # what its own forward makes of one 1 at a time, then
            one = torch.eye(layer.in_features, dtype=torch.bfloat16, device=weight.device)  # type: ignore[arg-type]
            made = torch.no_grad()(type(layer).forward)(layer, one).T
            return made if layer.bias is None else made - layer.bias.detach()[:, None]  # type: ignore[union-attr]
        return dequantize_4bit(weight.data, weight.quant_state)

    def _quantise(self, layer: nn.Module, weight: Tensor) -> None:
        from bitsandbytes import nn as quantised

        own: Any = layer.weight
        make: Any = quantised.Params4bit  # its own types do not say what it takes
        layer.weight = make(
            weight.to(own.quant_state.dtype), requires_grad=False, blocksize=own.blocksize,
            compress_statistics=own.compress_statistics, quant_type=own.quant_type,
            quant_storage=own.quant_storage,
        ).to(own.device)  # fmt: skip


class EightBitGeometry(QuantisedGeometry):
    """bitsandbytes' Linear8bitLt: a scale for each row, and inputs rounded to int8 as well."""

    def accepts(self, layer: nn.Module) -> bool:
        return _name(layer) == "bitsandbytes.nn.modules.Linear8bitLt"

    def matrix(self, layer: nn.Module) -> Tensor:
        from bitsandbytes.functional import int8_vectorwise_dequant

        weight: Any = layer.weight
        state: Any = layer.state
        scales = state.SCB if weight.SCB is None else weight.SCB  # the first forward moves them
        if weight.dtype != torch.int8 or scales is None:
            raise UnsupportedError(
                "A Linear8bitLt's weight is not quantised yet (or kept in fp16). Move the model to "
                "its device first, and build it with has_fp16_weights=False."
            )
        return int8_vectorwise_dequant(weight.data, scales)

    def _quantise(self, layer: nn.Module, weight: Tensor) -> None:
        from bitsandbytes import MatmulLtState
        from bitsandbytes import nn as quantised

        own: Any = layer.weight
        state: Any = layer.state
        fresh: Any = MatmulLtState()
        fresh.threshold, fresh.has_fp16_weights = state.threshold, state.has_fp16_weights
        fresh.use_pool = state.use_pool
        layer.state = fresh
        make: Any = quantised.Int8Params
        made = make(weight.cpu(), requires_grad=False, has_fp16_weights=False)
        layer.weight = made.to(own.device)


class WeightOnlyGeometry(QuantisedGeometry):
    """torchao's int8 weights: an nn.Linear whose parameter is a tensor of torchao's own."""

    def accepts(self, layer: nn.Module) -> bool:
        weight = layer._parameters.get("weight")
        if type(layer) is not nn.Linear or type(weight).__name__ != "Int8Tensor":
            return False
        # Inputs rounded to int8, too, leave no gradient.
        return type(weight).__module__.startswith("torchao.") and not weight.act_quant_kwargs  # type: ignore[union-attr]

    def matrix(self, layer: nn.Module) -> Tensor:
        weight: Any = layer.weight
        return weight.dequantize(torch.float32)

    def _quantise(self, layer: nn.Module, weight: Tensor) -> None:
        own: Any = layer.weight
        made = type(own.data).from_hp(weight.to(own.dtype), _granularity(own))
        layer.weight = nn.Parameter(made, requires_grad=False)


def _granularity(weight: Any) -> Any:
    from torchao.quantization import PerRow, PerTensor

    return PerTensor() if weight.block_size[0] == weight.shape[0] else PerRow()


def _name(layer: nn.Module) -> str:
    return f"{type(layer).__module__}.{type(layer).__qualname__}"
