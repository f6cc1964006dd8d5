"""llama.cpp's names for the tensors of a base, by architecture, and the order of their rows.

After the `gguf` package (tensor_mapping.py, constants.py) and llama.cpp's conversion/llama.py
(query and key of Llama in Meta's order), gpt_neox.py (query, key and value in blocks), and phi.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from lorakit.formats.heads import to_blocks, to_halves, to_heads, to_pairs

Order = Callable[[Tensor, int, str], Tensor]


@dataclass(frozen=True)
class Architecture:
    """llama.cpp's name of a family, and our paths of its tensors; `{}` is the layer."""

    name: str
    paths: Mapping[str, str]  # tensor -> path
    rows: Mapping[str, tuple[Order, Order]]  # tensor -> to llama.cpp's order of rows, and back


def _decoder(leaves: Mapping[str, str], prefix: str, table: str, head: str) -> dict[str, str]:
    own = {f"blk.{{}}.{tensor}": f"{prefix}.{{}}.{leaf}" for tensor, leaf in leaves.items()}
    return {**own, "token_embd": table, **({"output": head} if head else {})}


_MLP = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
_SPLIT = _MLP | {
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}  # fmt: skip
_PHI3 = {
    "attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj",
    "ffn_up": "mlp.gate_up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_GPT2 = {
    "attn_qkv": "attn.c_attn", "attn_output": "attn.c_proj", "ffn_up": "mlp.c_fc",
    "ffn_down": "mlp.c_proj",
}  # fmt: skip
_NEOX = {
    "attn_qkv": "attention.query_key_value", "attn_output": "attention.dense",
    "ffn_up": "mlp.dense_h_to_4h", "ffn_down": "mlp.dense_4h_to_h",
}  # fmt: skip
_HF = ("model.layers", "model.embed_tokens")
_PLAIN = _decoder(_SPLIT, *_HF, "lm_head")
_TIED = _decoder(_SPLIT, *_HF, "")  # Gemma's head is its table
_TURNED = {f"blk.{{}}.{tensor}": (to_pairs, to_halves) for tensor in ("attn_q", "attn_k")}
_LLAMA = Architecture("llama", _PLAIN, _TURNED)
FAMILIES = {
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": Architecture("qwen2", _PLAIN, {}),
    "qwen3": Architecture("qwen3", _PLAIN, {}),
    "gemma": Architecture("gemma", _TIED, {}),
    "gemma2": Architecture("gemma2", _TIED, {}),
    "gemma3_text": Architecture("gemma3", _TIED, {}),
    "phi3": Architecture("phi3", _decoder(_PHI3, *_HF, "lm_head"), {}),
    "gpt2": Architecture(
        "gpt2", _decoder(_GPT2, "transformer.h", "transformer.wte", "lm_head"), {}
    ),
    "gpt_neox": Architecture(
        "gptneox", _decoder(_NEOX, "gpt_neox.layers", "gpt_neox.embed_in", "lm_head"),
        {"blk.{}.attn_qkv": (to_blocks, to_heads)},
    ),
}  # fmt: skip
