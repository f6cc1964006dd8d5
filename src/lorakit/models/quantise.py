"""Loading a base with its linear layers in few bits: what transformers has to be told."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import torch

from lorakit.core.errors import ModelError

LIBRARIES = {"nf4": "bitsandbytes", "int8": "bitsandbytes", "torchao-int8": "torchao"}


def quantisation(config: Any, how: str, dtype: torch.dtype, heads: list[str]) -> Any:
    """Transformers' options for a base that is quantised while it is loaded.

    `how` is "nf4" (Dettmers et al. 2023: four bits, scales quantised too), "int8" (Dettmers et al.
    2022: weights and inputs in eight bits) or "torchao-int8" (weights alone). `heads` stay as they
    are. Raises `ModelError` where the library is not there, or the base is quantised already.
    """
    already = getattr(config, "quantization_config", None)
    if already is not None:
        raise ModelError(
            f"train.quantise is {how!r}, but the base's weights are quantised as they are. Set it "
            "to 'none', or name a base in full precision."
        )
    library = LIBRARIES[how]
    if importlib.util.find_spec(library) is None:
        raise ModelError(
            f"train.quantise={how!r} needs {library}: pip install 'lorakit[quant]', or set it to "
            "'none'."
        )
    import transformers as tf

    # One line for each layer and step, to say that inputs are cast, helps nobody.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    skip = heads or None  # None is transformers' own choice: the language model's head
    if how == "nf4":
        return tf.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype, llm_int8_skip_modules=skip,
        )  # fmt: skip
    if how == "int8":
        return tf.BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skip)
    from torchao.quantization import Int8WeightOnlyConfig

    return tf.TorchAoConfig(Int8WeightOnlyConfig(), modules_to_not_convert=skip)


def packed_bytes(how: str, rows: int, columns: int) -> int:
    """The bytes of a quantised matrix with its scales.

    nf4 (Dettmers et al. 2023): four bits a number, a scale of one byte for 64 of them, and a scale
    of four bytes for 256 scales. int8: a byte a number, and a scale of four bytes for each row.
    """
    count = rows * columns
    if how == "nf4":
        scales = -(-count // 64)
        return -(-count // 2) + scales + 4 * -(-scales // 256)
    return count + 4 * rows
