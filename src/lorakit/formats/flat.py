"""Module paths whose dots became underscores, as kohya's files have them, and the way back.

With the base at hand its own paths decide. Without it a list of the names that hold underscores
themselves does, in U-Nets and transformers of diffusers, the older U-Net names, CLIP and T5.
"""

from __future__ import annotations

from collections.abc import Collection

# The beginning of a key -> the part of the pipeline that it is for.
COMPONENTS = {
    "lora_unet_": "unet",
    "lora_te1_": "text_encoder",
    "lora_te2_": "text_encoder_2",
    "lora_te3_": "text_encoder_3",
    "lora_te_": "text_encoder",
    "lora_transformer_": "transformer",
}


def _words(text: str) -> list[str]:
    return text.split()


_UNITS = _words("""
    down_blocks up_blocks mid_block transformer_blocks single_transformer_blocks proj_in proj_out
    proj_mlp to_q to_k to_v to_out add_q_proj add_k_proj add_v_proj to_add_out time_emb_proj
    conv_shortcut conv_in conv_out time_embedding add_embedding linear_1 linear_2 ff_context
    norm1_context time_text_embed timestep_embedder text_embedder guidance_embedder
    context_embedder x_embedder norm_out encoder_hid_proj
    text_model self_attn q_proj k_proj v_proj out_proj text_projection embeddings token_embedding
    position_embedding layer_norm1 layer_norm2 final_layer_norm
    input_blocks middle_block output_blocks emb_layers in_layers out_layers skip_connection
    time_embed label_emb double_blocks single_blocks img_attn txt_attn img_mlp txt_mlp img_mod
    txt_mod img_in txt_in time_in vector_in guidance_in final_layer in_layer out_layer
    adaLN_modulation
    layer_norm wi_0 wi_1 o_proj
""")
_WORDS = _words("""
    attentions attn attn1 attn2 ff net resnets downsamplers upsamplers conv conv1 conv2 encoder
    layers mlp fc1 fc2 op proj qkv linear1 linear2 modulation lin block layer SelfAttention
    DenseReluDense q k v o wi wo linear norm norm1 norm2 out
""")
_KNOWN = {*_UNITS, *_WORDS}
_LONGEST = max(unit.count("_") for unit in _UNITS) + 1


def flatten(path: str) -> str:
    """The path as kohya's keys have it, without a prefix."""
    return path.replace(".", "_")


def split_component(key: str) -> tuple[str, str] | None:
    """The pipeline's part and the rest of a key, or None where the key names no part."""
    prefix = next((prefix for prefix in COMPONENTS if key.startswith(prefix)), None)
    return None if prefix is None else (COMPONENTS[prefix], key.removeprefix(prefix))


def unflatten(flat: str, modules: Collection[str] | None) -> str | None:
    """The path that a flat name stands for, or None where that cannot be told."""
    if modules is not None:
        return _among(flat, modules)
    words, parts, place = flat.split("_"), [], 0
    while place < len(words):
        for length in range(min(_LONGEST, len(words) - place), 0, -1):
            unit = "_".join(words[place : place + length])
            if unit in _KNOWN or unit.isdecimal():
                parts.append(unit)
                place += length
                break
        else:
            return None
    return ".".join(parts)


def _among(flat: str, modules: Collection[str]) -> str | None:
    # CLIP has lost its level `text_model` with transformers 5, and files keep it.
    names = (flat, flat.removeprefix("text_model_"))
    found = [path for path in modules if flatten(path) in names]
    return found[0] if len(found) == 1 else None
