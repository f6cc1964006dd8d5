"""Tiny random models of every supported family, from their configs."""

from __future__ import annotations

import torch
import transformers as tf

VOCABULARY = 64
_small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
_mlp = {"intermediate_size": 48}
_grouped = {**_small, **_mlp, "num_key_value_heads": 2, "head_dim": 8}
_plain = {**_small, **_mlp, "max_position_embeddings": 64}

CONFIGS = {
    "bert": lambda: tf.BertConfig(vocab_size=VOCABULARY, **_plain),
    "roberta": lambda: tf.RobertaConfig(vocab_size=VOCABULARY, **_plain),
    "distilbert": lambda: tf.DistilBertConfig(
        vocab_size=VOCABULARY, dim=32, n_layers=2, n_heads=4, hidden_dim=48
    ),
    "deberta-v2": lambda: tf.DebertaV2Config(
        vocab_size=VOCABULARY, relative_attention=True, pos_att_type=["p2c", "c2p"],
        position_buckets=16, **_plain
    ),
    "gpt2": lambda: tf.GPT2Config(
        vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, n_inner=48, n_positions=64
    ),
    "gpt_neox": lambda: tf.GPTNeoXConfig(vocab_size=VOCABULARY, **_plain),
    "opt": lambda: tf.OPTConfig(
        vocab_size=VOCABULARY, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
        ffn_dim=48, max_position_embeddings=64, word_embed_proj_dim=32
    ),
    "t5": lambda: tf.T5Config(
        vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
        decoder_start_token_id=0
    ),
    "t5-gated": lambda: tf.T5Config(
        vocab_size=VOCABULARY, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False, decoder_start_token_id=0
    ),
    "bart": lambda: tf.BartConfig(
        vocab_size=VOCABULARY, d_model=32, encoder_layers=2, decoder_layers=2,
        encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=48,
        decoder_ffn_dim=48, max_position_embeddings=64, scale_embedding=True
    ),
    "llama": lambda: tf.LlamaConfig(vocab_size=VOCABULARY, **_grouped),
    "llama-tied": lambda: tf.LlamaConfig(
        vocab_size=VOCABULARY, tie_word_embeddings=True, **_grouped
    ),
    "mistral": lambda: tf.MistralConfig(vocab_size=VOCABULARY, **_grouped),
    "qwen2": lambda: tf.Qwen2Config(vocab_size=VOCABULARY, **_grouped),
    "qwen3": lambda: tf.Qwen3Config(vocab_size=VOCABULARY, **_grouped),
    "gemma": lambda: tf.GemmaConfig(vocab_size=VOCABULARY, **_grouped),
    "gemma2": lambda: tf.Gemma2Config(vocab_size=VOCABULARY, **_grouped),
    "gemma3": lambda: tf.Gemma3TextConfig(vocab_size=VOCABULARY, **_grouped),
    "phi": lambda: tf.PhiConfig(vocab_size=VOCABULARY, **_plain),
    "phi3": lambda: tf.Phi3Config(vocab_size=VOCABULARY, pad_token_id=0, **_grouped),
}  # fmt: skip
EXPERTS = {
    "mixtral": lambda: tf.MixtralConfig(
        vocab_size=VOCABULARY, num_local_experts=4, num_experts_per_tok=2, **_grouped
    ),
    "qwen3_moe": lambda: tf.Qwen3MoeConfig(
        vocab_size=VOCABULARY, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24,
        decoder_sparse_step=1, **_grouped
    ),
    "gpt_oss": lambda: tf.GptOssConfig(
        vocab_size=VOCABULARY, num_local_experts=4, num_experts_per_tok=2, **_grouped
    ),
    "llama4": lambda: tf.Llama4TextConfig(
        vocab_size=VOCABULARY, num_local_experts=4, num_experts_per_tok=1, intermediate_size_mlp=48,
        attention_chunk_size=32, **_grouped
    ),
}  # fmt: skip
IMAGES = {
    "resnet": lambda: tf.ResNetConfig(
        num_channels=3, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], num_labels=5,
        layer_type="basic"
    ),
    "regnet": lambda: tf.RegNetConfig(
        num_channels=3, embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], num_labels=5,
        groups_width=4
    ),
}  # fmt: skip
ENCODERS = ("bert", "roberta", "distilbert", "deberta-v2")
SEQ2SEQ = ("t5", "t5-gated", "bart")


def build(
    family: str, *, seed: int = 0, dtype: torch.dtype = torch.float32, head: str = "lm",
    quantised: str = "",
):  # fmt: skip
    """A tiny model in eval mode: `head` is "lm" (the family's own) or "classes" (three labels)."""
    torch.manual_seed(seed)
    config = {**CONFIGS, **EXPERTS, **IMAGES}[family]()
    if head == "classes":
        config.num_labels = 3
        auto = tf.AutoModelForSequenceClassification
        config.pad_token_id = 0
    elif family in ENCODERS:
        auto = tf.AutoModelForMaskedLM
    elif family in IMAGES:
        auto = tf.AutoModelForImageClassification
    elif family in SEQ2SEQ:
        auto = tf.AutoModelForSeq2SeqLM
    else:
        auto = tf.AutoModelForCausalLM
    model = auto.from_config(config)
    for parameter in model.parameters():  # not the buffers: transformers keeps rotations in float32
        parameter.data = parameter.data.to(dtype)
    if family in IMAGES:
        model.to(dtype)  # running means and variances have the dtype of their layer
    if quantised:
        quantise(model, quantised)
    return model.eval()


def quantise(model, how: str) -> None:
    """Put quantised layers in the place of a model's linear ones, but for its head."""
    head = model.get_output_embeddings()
    inside = {"score", "classifier"}
    for path, layer in list(model.named_modules()):
        plain = type(layer).__name__ in ("Linear", "Conv1D")
        if not plain or layer is head or path.partition(".")[0] in inside:
            continue
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, quantised_layer(layer, how))


def quantised_layer(layer, how: str):
    """A quantised layer of the same weight."""
    weight = layer.weight.data.T if type(layer).__name__ == "Conv1D" else layer.weight.data
    rows, columns = weight.shape
    if how == "torchao-int8":
        from torchao.quantization import Int8WeightOnlyConfig, quantize_

        holder = torch.nn.Sequential(torch.nn.Linear(columns, rows, bias=False))
        holder[0].weight = torch.nn.Parameter(weight.contiguous(), requires_grad=False)
        holder[0].bias = layer.bias
        quantize_(holder, Int8WeightOnlyConfig())
        return holder[0]
    import bitsandbytes as bnb

    if how == "nf4":
        made = bnb.nn.Linear4bit(columns, rows, bias=False, quant_type="nf4")
        made.weight = bnb.nn.Params4bit(
            weight.contiguous(), requires_grad=False, quant_type="nf4", module=made
        )
        made.support_avx512bf16_for_cpu = False  # as lorakit's loading does: see settle
    else:
        made = bnb.nn.Linear8bitLt(columns, rows, bias=False, has_fp16_weights=False, threshold=6.0)
        made.weight = bnb.nn.Int8Params(
            weight.contiguous(), requires_grad=False, has_fp16_weights=False
        )
    made.bias = layer.bias
    return made.to("cpu")


def inputs(model, *, rows: int = 2, length: int = 7, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random token ids that avoid the special ones, with decoder ids where the model has one.

    Of a model of images, random ones.
    """
    generator = torch.Generator().manual_seed(seed)
    if model.main_input_name == "pixel_values":
        return {"pixel_values": torch.randn(rows, 3, 24, 24, generator=generator).to(model.dtype)}
    ids = torch.randint(4, VOCABULARY, (rows, length), generator=generator)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if model.config.is_encoder_decoder:
        batch["decoder_input_ids"] = ids[:, : length - 2]
    return batch


def randomise(model, name: str, *, seed: int = 0, scale: float = 0.1) -> None:
    """Give an adapter values that change every output."""
    from lorakit.core.registry import require_registry

    entry = require_registry(model).entry(name)
    generator = torch.Generator().manual_seed(seed)
    shaken: set[int] = set()  # frozen factors of several layers may share their memory
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if f".lora.{entry.id}." not in key:
                continue
            memory = parameter.untyped_storage().data_ptr()
            if memory not in shaken:
                shaken.add(memory)
                noise = torch.randn(parameter.shape, generator=generator) * scale
                parameter.add_(noise.to(parameter))


def adapter(folder, family: str, *, targets="all-linear", method=None, rank: int = 4):
    """The folder of an adapter of a family's model; targets may be given with their ranks."""
    import lorakit as lk

    model = build(family)
    ranks = targets if isinstance(targets, dict) else rank
    names = list(targets) if isinstance(targets, dict) else targets
    lk.inject(model, lk.plan(model, names, ranks), method=method or lk.LoRA(alpha=8))
    randomise(model, "default")
    lk.save(model, folder)
    return folder
