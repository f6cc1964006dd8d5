"""Feed every reader of adapters with invented and damaged input: only LorakitError may come out.

    pip install -e '.[fuzz]'
    python scripts/fuzz.py --seconds 60            # all targets, one after the other
    python scripts/fuzz.py --target pickle --seconds 600

A reading that takes over 2 s, or over 500 MB more than before, counts as a failure. What failed is
kept in the folder `--out` and can be given to a target again: `--target pickle --again FILE`.
"""

from __future__ import annotations

import argparse
import io
import json
import resource
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

MOST_SECONDS = 2
MOST_MEGABYTES = 500
ENDS = {
    "kohya": (".lora_down.weight", ".lora_up.weight", ".alpha", ".dora_scale", ".lora_mid.weight",
              ".hada_w1_a", ".hada_w1_b", ".hada_w2_a", ".hada_w2_b", ".hada_t1", ".hada_t2",
              ".lokr_w1", ".lokr_w1_a", ".lokr_w1_b", ".lokr_w2", ".lokr_w2_a", ".lokr_w2_b",
              ".lokr_t2", ".diff", ""),
    "diffusers": (".lora_A.weight", ".lora_B.weight", ".lora.down.weight", ".lora.up.weight",
                  ".processor.to_q_lora.down.weight", ".processor.to_q_lora.up.weight", ".alpha",
                  ".lora_magnitude_vector", ".lora_linear_layer.up.weight", ""),
    "loralib": (".lora_A", ".lora_B", ".weight", ".bias", ""),
    "cloneofsimo": (":0:up", ":0:down", ":1:up", ":1:down", ":0:alpha", ""),
    "torchtune": (".lora_a.weight", ".lora_b.weight", ".magnitude", ".weight", ""),
    "litgpt": (".lora_A", ".lora_B", ".linear.weight", ""),
    "gguf": (".weight.lora_a", ".weight.lora_b", ".weight", ""),
    "peft": (".lora_A.weight", ".lora_B.weight", ".lora_embedding_A", ".lora_embedding_B",
             ".lora_magnitude_vector", ".base_layer.weight", ".base_layer.bias", ".bias",
             ".weight", ".base_layer.lora_A.weight", ".base_layer.lora_B.weight", ""),
    "vera": (".vera_lambda_d", ".vera_lambda_b", ".vera_A", ".vera_B", ".bias", ".lora_A.weight",
             ""),
}  # fmt: skip
STEMS = {
    "kohya": ("lora_unet_mid_block_to_q", "lora_te_text_model_x", "lora_unet_conv_in", "x"),
    "diffusers": ("unet.mid_block.to_q", "mid_block.to_k", "text_encoder.text_model.fc1", "x"),
    "loralib": ("mid_block.to_q", "conv_in", "x"),
    "cloneofsimo": ("unet", "text_encoder", "<s1>", "0", "1"),
    "torchtune": ("layers.0.attn.q_proj", "layers.0.attn.v_proj", "layers.0.mlp.w1", "output", "x"),
    "litgpt": ("transformer.h.0.attn.qkv", "transformer.h.0.mlp.fc_1", "transformer.h.0.mlp.fc",
               "transformer.h.0.attn.attn", "lm_head", "x"),
    "gguf": ("blk.0.attn_q", "blk.0.attn_qkv", "blk.0.ffn_up", "token_embd", "output", "x"),
    "peft": ("base_model.model.mid_block.to_q", "base_model.model.conv_in", "x",
             "base_model.model.table", "base_model.model.mix"),
    "vera": ("base_model", "base_model.model.mid_block.to_q", "base_model.model.mid_block.to_k",
             "base_model.model.conv_in", "x"),
}  # fmt: skip


TEXT = ("torchtune", "litgpt", "gguf")
FAMILIES = {"llama": "llama", "qwen2": "qwen2", "gpt_neox": "gptneox"}


def base(family: str = ""):
    """A model with a layer of each kind that the invented names may mean."""
    import torch
    from torch import nn

    torch.manual_seed(0)
    if family:
        return text_base(family)
    return nn.ModuleDict({
        "mid_block": nn.ModuleDict({"to_q": nn.Linear(3, 4), "to_k": nn.Linear(3, 4)}),
        "conv_in": nn.Conv2d(3, 4, 3), "table": nn.Embedding(3, 4), "mix": experts(),
    })  # fmt: skip


def experts():
    """A module that looks like the fused experts of transformers."""
    import torch
    from torch import nn

    kind = type("TinyExperts", (nn.Module,), {"__module__": "transformers.models.tiny.modeling"})
    made = kind()
    made.gate_up_proj = nn.Parameter(torch.ones(3, 4, 3))
    made.down_proj = nn.Parameter(torch.ones(3, 3, 2))
    return made


def text_base(family: str):
    """A language model's layers by their names, and a config of two heads of two."""
    from types import SimpleNamespace

    from torch import nn

    if family == "gpt_neox":
        inner = {"attention": nn.ModuleDict({"query_key_value": nn.Linear(3, 12)}),
                 "mlp": nn.ModuleDict({"dense_h_to_4h": nn.Linear(3, 9)})}  # fmt: skip
    else:
        parts = {"q_proj": nn.Linear(3, 4), "k_proj": nn.Linear(3, 2), "v_proj": nn.Linear(3, 2)}
        mlp = {"gate_proj": nn.Linear(3, 9), "up_proj": nn.Linear(3, 9)}
        inner = {"self_attn": nn.ModuleDict(parts), "mlp": nn.ModuleDict(mlp)}
    body = nn.ModuleDict({
        "layers": nn.ModuleList([nn.ModuleDict(inner)]), "embed_tokens": nn.Embedding(9, 3)
    })  # fmt: skip
    config = SimpleNamespace(
        model_type=family, num_attention_heads=2, hidden_size=4,
        num_key_value_heads=2 if family == "gpt_neox" else 1, tie_word_embeddings=False,
    )  # fmt: skip
    object.__setattr__(body, "config", config)
    where = "gpt_neox" if family == "gpt_neox" else "model"
    return nn.ModuleDict({where: body, "lm_head": nn.Linear(3, 9)})


def invented(form: str) -> Callable[[bytes], None]:
    """Tensors and metadata of the format's own names, in shapes that nearly fit."""
    import atheris
    import torch

    from lorakit.formats import FORMATS
    from lorakit.formats.content import Content, Options

    reader = next(reader for reader in FORMATS if reader.name == form)

    def run(data: bytes) -> None:
        given = atheris.FuzzedDataProvider(data)
        tensors = {}
        for _ in range(given.ConsumeIntInRange(0, 6)):
            key = given.PickValueInList(list(STEMS[form])) + given.PickValueInList(list(ENDS[form]))
            axes = given.ConsumeIntInRange(0, 5)
            shape = [given.PickValueInList([0, 1, 2, 3, 4, 9]) for _ in range(axes)]
            tensors[key] = torch.full(shape, given.PickValueInList([1.0, 0.0, -2.5]))
        metadata = {}
        if given.ConsumeBool():
            raw = {
                given.PickValueInList(["r", "lora_alpha", "unet.r", "unet.lora_alpha", "use_dora",
                                       "unet.rank_pattern", "unet.target_modules", "unet"]):
                given.PickValueInList([1, 2, 0, -1, 1e300, None, True, "a", [], {}, {"x": 2}, [1]])
                for _ in range(given.ConsumeIntInRange(0, 5))
            }  # fmt: skip
            metadata["lora_adapter_metadata"] = json.dumps(raw)
            metadata[given.PickValueInList(["unet", "<s1>", "text_encoder"])] = (
                given.PickValueInList(["[]", '["Linear"]', "<embed>", "{", "3"])
            )
        files = {}
        if form == "peft":
            config = {
                "peft_type": "LORA", "r": given.PickValueInList([1, 2, 3, 0, "2", 2.0]),
                "lora_alpha": given.PickValueInList([1, 2.5, 0, None, "x"]),
                "target_modules": given.PickValueInList([["to_q"], "to_.", ".*", [], 3, "(", None]),
                "bias": given.PickValueInList(["none", "all", "lora_only", 3]),
                "use_dora": given.ConsumeBool(), "use_rslora": given.ConsumeBool(),
                "modules_to_save": given.PickValueInList([None, ["x"], ["conv_in"], "x", [3]]),
                "rank_pattern": given.PickValueInList([{}, {"to_q": 3}, {"[": 1}, [], {"a": "b"}]),
                "layers_pattern": given.PickValueInList([None, "h", ["h"], 3]),
                "layers_to_transform": given.PickValueInList([None, 0, [0, "a"], [1]]),
                "target_parameters": given.PickValueInList(
                    [None, None, ["mix.down_proj"], ["mix.gate_up_proj", "mix.down_proj"], ["x"], 3]
                ),
            }  # fmt: skip
            files = {"adapter_config.json": json.dumps(config).encode()}
        if form == "vera":
            config = {
                "peft_type": given.PickValueInList(["VERA", "VERA", "LORA"]),
                "r": given.PickValueInList([1, 2, 3, 0, "2", None]),
                "target_modules": given.PickValueInList([["to_q"], ["to_q", "to_k"], ".*", 3]),
                "bias": given.PickValueInList(["none", "all", "vera_only", 3]),
                "vera_dropout": given.PickValueInList([0.0, 2, None, "x"]),
                "modules_to_save": given.PickValueInList([None, ["x"], ["conv_in"]]),
            }  # fmt: skip
            files = {"adapter_config.json": json.dumps(config).encode()}
        family = given.PickValueInList(list(FAMILIES)) if form in TEXT else ""
        if form == "gguf":
            metadata = {
                "general.architecture": given.PickValueInList([*FAMILIES.values(), "x"]),
                "adapter.type": given.PickValueInList(["lora", "lora", "x"]),
                "adapter.lora.alpha": given.PickValueInList(["2.0", "0", "nan", "x", "1e-40"]),
                f"{FAMILIES[family]}.attention.key_length": given.PickValueInList(["2", "3", "x"]),
            }
        content = Content("here", files, tensors, metadata)
        alpha = given.PickValueInList([None, 1.0])
        enabled = given.PickValueInList([None, (True, False, True), (False, True)])
        options = Options(alpha=alpha, enabled=enabled)
        if reader.matches(content):
            _use(reader, content, options, family)

    return run


def _use(reader, content, options, family) -> None:
    """Read, fit to the model, check against it, and write again."""
    from lorakit.formats.check import check_state
    from lorakit.formats.components import fit
    from lorakit.formats.load import own_modules
    from lorakit.formats.proof import holdable

    model = base(family)
    modules = own_modules(model)
    # Some formats cannot be read without the base, or are written for it alone.
    by_base = family or reader.name == "vera"
    state = reader.load(content, modules if by_base else None, options)
    if family:
        check_state(model, state, "here")
    kept, _ = holdable(state, reader.name, drop=True)
    if kept.low_rank:
        reader.save(kept, modules, options)
    state = reader.load(content, modules, options)
    fit(state, modules, options, "here")
    check_state(model, state, "here")


def damaged(kind: str) -> Callable[[bytes], None]:
    """A file's bytes, from good ones onwards."""
    from lorakit.analysis.inspect import inspect

    def run(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            if kind == "pickle":
                (folder / "x.bin").write_bytes(data)
            elif kind in ("safetensors", "container"):
                end = "gguf" if kind == "container" else kind
                (folder / f"x.{end}").write_bytes(data)
            else:
                size = int.from_bytes(data[:2], "little")
                (folder / "adapter_config.json").write_bytes(data[2 : 2 + size])
                (folder / "adapter_model.safetensors").write_bytes(data[2 + size :])
            str(inspect(folder))

    return run


def expression() -> Callable[[bytes], None]:
    """A regular expression of a config, and a text."""
    from lorakit.formats.expression import fullmatch

    def run(data: bytes) -> None:
        pattern, _, text = data.decode("utf-8", "replace").partition("\0")
        fullmatch(pattern, text[:200])

    return run


def seeds(target: str) -> list[bytes]:
    """Good input of a target that starts from bytes."""
    import torch
    from safetensors.torch import save

    from lorakit.formats import gguf_file

    pair = {"base_model.model.x.lora_A.weight": torch.ones(1, 2),
            "base_model.model.x.lora_B.weight": torch.ones(2, 1)}  # fmt: skip
    flat = {"lora_unet_mid_block_to_q.lora_down.weight": torch.ones(1, 2),
            "lora_unet_mid_block_to_q.lora_up.weight": torch.ones(2, 1)}  # fmt: skip
    file = io.BytesIO()
    torch.save({"x.lora_A": torch.ones(1, 2), "x.lora_B": torch.ones(2, 1).half()}, file)
    config = json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 2}).encode()
    folder = len(config).to_bytes(2, "little") + config + save(pair)
    values = {"general.architecture": "qwen2", "general.type": "adapter", "adapter.type": "lora",
              "adapter.lora.alpha": 2.0}  # fmt: skip
    factors = {"blk.0.ffn_up.weight.lora_a": torch.ones(1, 2),
               "blk.0.ffn_up.weight.lora_b": torch.ones(2, 1).half()}  # fmt: skip
    return {
        "container": [gguf_file.write(values, factors)],
        "pickle": [file.getvalue()],
        "safetensors": [save(flat), save(flat, {"ss_steps": "4"})],
        "folder": [folder],
        "expression": [b"(a|b)*c{2,3}\0abcc", b"^layers\\.[0-9]+.*q_proj$\0layers.1.q_proj"],
    }.get(target, [])


def watched(run: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """The target, with LorakitError as an answer and memory measured."""
    from lorakit.core.errors import LorakitError

    def guarded(data: bytes) -> None:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            run(data)
        except LorakitError:
            return
        finally:
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            if grown > MOST_MEGABYTES:
                raise MemoryError(f"reading took {grown:.0f} MB")

    return guarded


TARGETS = ["container", "expression", "folder", "pickle", "safetensors", *ENDS]


def fuzz(target: str, seconds: int, out: Path, again: Path | None) -> None:
    """One target in this process, which libFuzzer ends."""
    import atheris

    warnings.filterwarnings("ignore")
    with atheris.instrument_imports(include=["lorakit.formats"]):
        import lorakit.formats.convert  # noqa: F401
    if target == "expression":
        run = expression()
    else:
        run = invented(target) if target in ENDS else damaged(target)
    corpus = out / f"corpus-{target}"
    corpus.mkdir(parents=True, exist_ok=True)
    for place, data in enumerate(seeds(target)):
        (corpus / f"seed-{place}").write_bytes(data)
    flags = [f"-max_total_time={seconds}", f"-timeout={MOST_SECONDS}", "-rss_limit_mb=4096",
             f"-artifact_prefix={out}/{target}-", "-print_final_stats=1"]  # fmt: skip
    atheris.Setup([sys.argv[0], *flags, str(again or corpus)], watched(run))
    atheris.Fuzz()


def main() -> None:
    """Run the targets that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=int, default=60, help="for each target")
    parser.add_argument("--target", choices=TARGETS)
    parser.add_argument("--again", type=Path, help="a kept input")
    parser.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "lorakit-fuzz")
    given = parser.parse_args()
    if given.target:
        fuzz(given.target, given.seconds, given.out, given.again)
        return
    failed = []
    for target in TARGETS:
        command = [sys.executable, __file__, "--target", target, "--out", str(given.out)]
        done = subprocess.run(
            [*command, "--seconds", str(given.seconds)], capture_output=True, text=True, check=False
        )
        counts = [line for line in done.stderr.splitlines() if "number_of_executed" in line]
        runs = counts[0].split()[-1] if counts else "?"
        print(f"{target:<12} {runs:>9} inputs  {'good' if not done.returncode else 'FAILED'}")
        if done.returncode:
            failed.append(target)
            print(done.stdout[-2000:], done.stderr[-2000:], sep="\n")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
