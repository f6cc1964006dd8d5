"""SDXL's and Flux's layers by the names of those models' own code, as diffusers reads them."""

from __future__ import annotations

import pytest
import safetensors.torch
import torch
from torch import nn

import lorakit as lk
from families import randomise
from lorakit.core.state import LowRankState
from lorakit.formats import flux, sgm
from lorakit.formats.load import read_adapter

pytestmark = pytest.mark.filterwarnings("ignore")  # diffusers warns where it converts
diffusers = pytest.importorskip("diffusers")
KINDS = (nn.Linear, nn.Conv2d)


def unet():
    torch.manual_seed(0)
    return diffusers.UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, layers_per_block=2,
        block_out_channels=(16, 32, 32), cross_attention_dim=16, attention_head_dim=8,
        norm_num_groups=8, use_linear_projection=True, transformer_layers_per_block=(1, 1, 2),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + 16,
    ).eval()  # fmt: skip


def picture(model) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(2, 4, 8, 8, generator=generator)
    words = torch.randn(2, 5, 16, generator=generator)
    added = {"text_embeds": torch.randn(2, 16, generator=generator), "time_ids": torch.ones(2, 6)}
    with torch.no_grad():
        return model(noise, torch.tensor([3, 7]), words, added_cond_kwargs=added).sample


def transformer():
    torch.manual_seed(0)
    return diffusers.FluxTransformer2DModel(
        in_channels=4, num_layers=2, num_single_layers=2, attention_head_dim=8,
        guidance_embeds=True, num_attention_heads=2, joint_attention_dim=16,
        pooled_projection_dim=8, axes_dims_rope=(2, 2, 4),
    ).eval()  # fmt: skip


def adapted(parts: dict[str, nn.Module]) -> nn.ModuleDict:
    both = nn.ModuleDict(parts)
    linear = [path for path, module in both.named_modules() if isinstance(module, KINDS)]
    lk.inject(both, lk.plan(both, linear, 3), method=lk.LoRA(alpha=6))
    randomise(both, "default", scale=0.2)
    return both


def layers(model: nn.Module) -> list[str]:
    kinds = (*KINDS, nn.GroupNorm)
    return [path for path, module in model.named_modules() if isinstance(module, kinds)]


def flat(low_rank: dict) -> dict[str, torch.Tensor]:
    """The tensors of a kohya file, the layers by their model's own names."""
    tensors = {}
    for path, low in low_rank.items():
        key, ones = "lora_unet_" + path.replace(".", "_"), [1] * len(low.kernel)
        tensors[f"{key}.lora_down.weight"] = low.A.view(low.rank, -1, *low.kernel)
        tensors[f"{key}.lora_up.weight"] = low.B.view(*low.B.shape, *ones)
        tensors[f"{key}.alpha"] = torch.tensor(low.alpha)
    return tensors


def test_every_layer_of_sdxl_has_one_name_each_way():
    # Every level of SDXL that grows has attention; the last one of it, without, does not grow.
    paths = layers(unet())
    theirs = [sgm.from_diffusers(path) for path in paths]
    assert len(set(theirs)) == len(paths) > 150
    assert [sgm.to_diffusers(path) for path in theirs] == paths
    assert "input_blocks.4.1.transformer_blocks.0.attn1.to_q" in theirs
    assert "output_blocks.5.2.conv" in theirs


@pytest.mark.parametrize(
    "path", ["middle_block.1", "middle_block.3.x", "input_blocks.0.1.x", "input_blocks.4", "x", ""]
)
def test_what_is_no_layer_of_sdxl_is_none(path):
    assert sgm.to_diffusers(path) is None
    assert sgm.from_diffusers(path) is None


def test_files_for_sdxl_load_onto_diffusers_modules(tmp_path):
    both = adapted({"unet": unet()})
    expected = picture(both["unet"])
    lk.save(both, tmp_path / "peft")
    state = read_adapter(tmp_path / "peft")
    own = {p.removeprefix("unet."): low for p, low in state.low_rank.items()}
    tensors = flat({sgm.from_diffusers(path): low for path, low in own.items()})
    file = tmp_path / "sdxl.safetensors"
    safetensors.torch.save_file(tensors, file)

    for model in (nn.ModuleDict({"unet": unet()}), unet()):
        lk.load(model, file)
        alone = model["unet"] if isinstance(model, nn.ModuleDict) else model
        assert (picture(unet()) - expected).abs().max() > 0.05
        torch.testing.assert_close(picture(alone), expected, rtol=1e-4, atol=1e-4)
    assert lk.convert(file, tmp_path / "again", to="kohya").largest < 1e-6
    again = safetensors.torch.load_file(tmp_path / "again" / "pytorch_lora_weights.safetensors")
    assert again.keys() == tensors.keys()
    assert lk.convert(file, tmp_path / "diffusers", to="diffusers").largest < 1e-6
    theirs, mixin = unet(), diffusers.loaders.StableDiffusionXLLoraLoaderMixin
    kept, alphas = mixin.lora_state_dict(tmp_path / "again", unet_config=theirs.config)
    mixin.load_lora_into_unet(kept, alphas, theirs)
    torch.testing.assert_close(picture(theirs), expected, rtol=1e-4, atol=1e-4)


def test_a_base_with_sdxls_own_names_keeps_them(tmp_path):
    class Original(nn.Module):
        def __init__(self):
            super().__init__()
            self.input_blocks = nn.ModuleList([nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])])

        def forward(self, x):
            return self.input_blocks[0][1](x)

    key = "lora_unet_input_blocks_0_1"
    tensors = {
        f"{key}.lora_down.weight": torch.ones(1, 3),
        f"{key}.lora_up.weight": torch.ones(3, 1),
    }
    safetensors.torch.save_file(tensors, tmp_path / "own.safetensors")
    model = Original()
    assert list(read_adapter(tmp_path / "own.safetensors", model=model).low_rank) == [
        "input_blocks.0.1"
    ]


def test_files_for_flux_load_onto_diffusers_modules(tmp_path):
    both = adapted({"transformer": transformer()})
    lk.save(both, tmp_path / "peft")
    state = read_adapter(tmp_path / "peft")
    own = {p.removeprefix("transformer."): low for p, low in state.low_rank.items()}
    fused = flux.from_diffusers(own)
    assert fused["double_blocks.0.img_attn.qkv"].rank == 9  # three updates, each with its own A
    assert fused["single_blocks.1.linear1"].B.shape == (7 * 16, 12)
    file = tmp_path / "flux.safetensors"
    safetensors.torch.save_file(flat(fused), file)

    model = transformer()
    report = lk.load(model, file)
    assert report.sites == len(own)
    for path, low in own.items():
        found = read_adapter(file).low_rank[f"transformer.{path}"]
        whole = found.alpha / found.rank * found.B.double() @ found.A.double()
        torch.testing.assert_close(whole, low.alpha / low.rank * low.B.double() @ low.A.double())
    assert lk.convert(file, tmp_path / "again", to="kohya").largest < 1e-6
    again = safetensors.torch.load_file(tmp_path / "again" / "pytorch_lora_weights.safetensors")
    assert again.keys() == flat(fused).keys()


def test_diffusers_reads_flux_the_same(tmp_path):
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "double_blocks_0_img_attn_qkv": (9216, 3072), "double_blocks_0_txt_attn_proj": (3072, 3072),
        "double_blocks_1_txt_mlp_0": (12288, 3072), "double_blocks_1_img_mod_lin": (18432, 3072),
        "single_blocks_3_linear1": (21504, 3072), "single_blocks_3_linear2": (3072, 15360),
        "final_layer_adaLN_modulation_1": (6144, 3072), "time_in_in_layer": (3072, 256),
    }  # fmt: skip
    tensors = {}
    for key, (rows, columns) in shapes.items():
        A, B = (
            torch.randn(1, columns, generator=generator),
            torch.randn(rows, 1, generator=generator),
        )
        tensors |= {f"lora_unet_{key}.lora_down.weight": A, f"lora_unet_{key}.lora_up.weight": B,
                    f"lora_unet_{key}.alpha": torch.ones(())}  # fmt: skip
    file = tmp_path / "flux.safetensors"
    safetensors.torch.save_file(tensors, file)
    ours = read_adapter(file).low_rank
    convert = diffusers.loaders.lora_conversion_utils._convert_kohya_flux_lora_to_diffusers
    theirs = convert(dict(tensors))
    found = {
        f"{path}.lora_{kind}.weight": getattr(low, kind)
        for path, low in ours.items()
        for kind in "AB"
    }
    named = {
        k if k.startswith("transformer.") else f"transformer.{k}": v for k, v in theirs.items()
    }
    assert found.keys() == named.keys()
    torch.testing.assert_close(found, named, rtol=0, atol=0)


def test_parts_of_a_fused_layer_that_differ():
    """Of other ranks and scales, one of them without a change, and with DoRA's magnitudes."""
    torch.manual_seed(0)
    block = "transformer_blocks.0.attn"

    def low(rank, alpha, magnitude=None):
        return LowRankState(
            "linear", torch.randn(rank, 4), torch.randn(4, rank), alpha, magnitude=magnitude
        )

    parts = {f"{block}.to_q": low(2, 2.0), f"{block}.to_v": low(3, 9.0)}
    (fused,) = flux.from_diffusers(parts).values()
    whole = fused.alpha / fused.rank * fused.B @ fused.A
    expected = [parts[f"{block}.to_q"], None, parts[f"{block}.to_v"]]
    for rows, own in zip(whole.split(4), expected):
        change = torch.zeros(4, 4) if own is None else own.alpha / own.rank * own.B @ own.A
        torch.testing.assert_close(rows, change)
    kept = {f"{block}.to_q": low(2, 2.0, torch.ones(4))}
    assert flux.from_diffusers(kept) == kept  # the others' magnitudes are not known
    named = {f"{block}.{leaf}": low(2, 2.0, torch.rand(4)) for leaf in ("to_q", "to_k", "to_v")}
    (fused,) = flux.from_diffusers(named).values()
    back = flux.to_diffusers({"double_blocks.0.img_attn.qkv": fused})
    assert list(back) == list(named)
    for path, own in named.items():
        assert torch.equal(back[path].magnitude, own.magnitude)


def test_layers_of_another_transformer_keep_their_names(tmp_path):
    # Flux.2's single blocks have wider rows: nothing is cut where the shapes do not say how.
    key = "lora_unet_single_blocks_0_linear1"
    tensors = {
        f"{key}.lora_down.weight": torch.ones(1, 4),
        f"{key}.lora_up.weight": torch.ones(36, 1),
    }
    safetensors.torch.save_file(tensors, tmp_path / "flux2.safetensors")
    assert list(read_adapter(tmp_path / "flux2.safetensors").low_rank) == [
        "unet.single_blocks.0.linear1"
    ]
