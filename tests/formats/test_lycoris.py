"""LyCORIS' products: the same change as LyCORIS itself makes, on linear layers and convolutions."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import lorakit as lk
from lorakit.core.errors import AdapterFileError, UnsupportedError

KEY = "lora_unet_mid_block_proj_in"


def hada(*shape: int, tucker: bool) -> dict[str, torch.Tensor]:
    out, columns, *kernel = shape
    points = 1 if not kernel else kernel[0] * kernel[1]
    found = {}
    for place in "12":
        if tucker:
            found[f"hada_w{place}_a"] = torch.randn(3, out)
            found[f"hada_w{place}_b"] = torch.randn(3, columns)
            found[f"hada_t{place}"] = torch.randn(3, 3, *kernel)
        else:
            found[f"hada_w{place}_a"] = torch.randn(out, 3)
            found[f"hada_w{place}_b"] = torch.randn(3, columns * points)
    return found


def hada_delta(parts: dict[str, torch.Tensor], shape) -> torch.Tensor:
    whole = []
    for place in "12":
        left, right = parts[f"hada_w{place}_a"], parts[f"hada_w{place}_b"]
        core = parts.get(f"hada_t{place}")
        made = left @ right if core is None else torch.einsum("pqkl,po,qi->oikl", core, left, right)
        whole.append(made.reshape(shape))
    return whole[0] * whole[1]


def lokr(kernel=(), *, first: bool, second: str) -> dict[str, torch.Tensor]:
    found = {"lokr_w1": torch.randn(3, 2)}
    if first:
        found = {"lokr_w1_a": torch.randn(3, 2), "lokr_w1_b": torch.randn(2, 2)}
    if second == "whole":
        found["lokr_w2"] = torch.randn(4, 5, *kernel)
    elif second == "factors":
        points = 1 if not kernel else kernel[0] * kernel[1]
        found["lokr_w2_a"], found["lokr_w2_b"] = torch.randn(4, 2), torch.randn(2, 5 * points)
    else:
        found["lokr_w2_a"], found["lokr_w2_b"] = torch.randn(2, 4), torch.randn(2, 5)
        found["lokr_t2"] = torch.randn(2, 2, *kernel)
    return found


def lokr_delta(parts: dict[str, torch.Tensor], shape) -> torch.Tensor:
    one = parts.get("lokr_w1")
    one = parts["lokr_w1_a"] @ parts["lokr_w1_b"] if one is None else one
    two = parts.get("lokr_w2")
    if two is None:
        left, right, core = parts["lokr_w2_a"], parts["lokr_w2_b"], parts.get("lokr_t2")
        two = left @ right if core is None else torch.einsum("pqkl,po,qi->oikl", core, left, right)
    two = two.reshape(4, 5, *shape[2:])
    return torch.einsum("ab,cd...->acbd...", one, two).reshape(shape)


LINEAR, CONVOLUTION = (12, 10), (12, 10, 3, 3)
CASES = {
    "loha": (hada(*LINEAR, tucker=False), hada_delta, LINEAR, 3),
    "loha, convolution": (hada(*CONVOLUTION, tucker=False), hada_delta, CONVOLUTION, 3),
    "loha, tucker": (hada(*CONVOLUTION, tucker=True), hada_delta, CONVOLUTION, 3),
    "lokr": (lokr(first=False, second="factors"), lokr_delta, LINEAR, 2),
    "lokr, both": (lokr(first=True, second="factors"), lokr_delta, LINEAR, 2),
    "lokr, whole": (lokr(first=False, second="whole"), lokr_delta, LINEAR, None),
    "lokr, convolution": (lokr((3, 3), first=True, second="whole"), lokr_delta, CONVOLUTION, 2),
    "lokr, flat": (lokr((3, 3), first=False, second="factors"), lokr_delta, CONVOLUTION, 2),
    "lokr, tucker": (lokr((3, 3), first=False, second="tucker"), lokr_delta, CONVOLUTION, 2),
}


def layer(shape) -> nn.Module:
    torch.manual_seed(0)
    inner = nn.Linear(10, 12) if len(shape) == 2 else nn.Conv2d(10, 12, 3)
    return nn.ModuleDict({"mid_block": nn.ModuleDict({"proj_in": inner})})


@pytest.mark.parametrize("name", CASES)
def test_the_change_is_that_of_the_formula(name, tmp_path):
    parts, formula, shape, dim = CASES[name]
    tensors = {f"{KEY}.{part}": value for part, value in parts.items()}
    tensors[f"{KEY}.alpha"] = torch.tensor(1.5)
    save_file(tensors, tmp_path / "x.safetensors")
    model = layer(shape)
    before = model["mid_block"]["proj_in"].weight.clone()
    lk.load(model, tmp_path / "x.safetensors")
    expected = formula(parts, shape) * (1.5 / dim if dim else 1)
    with lk.merged(model):
        change = model["mid_block"]["proj_in"].weight - before
    torch.testing.assert_close(change, expected, rtol=1e-4, atol=1e-4)
    proof = lk.convert(tmp_path / "x.safetensors", tmp_path / "lora", model=layer(shape))
    assert proof.largest < 1e-6
    small = lk.resize(tmp_path / "lora", rank=2, out=tmp_path / "small")
    values = torch.linalg.svdvals(expected.flatten(1).double())
    gap = float(values[2:].norm() / values.norm())
    assert small.largest == pytest.approx(gap, rel=1e-3, abs=1e-6)


def test_a_middle_factor_of_locon(tmp_path):
    torch.manual_seed(0)
    down, mid = torch.randn(4, 10, 1, 1), torch.randn(4, 4, 3, 3)
    up = torch.randn(12, 4, 1, 1)
    save_file({
        f"{KEY}.lora_down.weight": down, f"{KEY}.lora_mid.weight": mid, f"{KEY}.lora_up.weight": up,
        f"{KEY}.alpha": torch.tensor(2.0),
    }, tmp_path / "x.safetensors")  # fmt: skip
    model, x = layer(CONVOLUTION), torch.randn(2, 10, 5, 5)
    inner = model["mid_block"]["proj_in"]
    before = inner(x)
    lk.load(model, tmp_path / "x.safetensors")
    h = nn.functional.conv2d(nn.functional.conv2d(x, down), mid)
    expected = before + 0.5 * nn.functional.conv2d(h, up)
    torch.testing.assert_close(inner(x), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda t: t.pop("hada_w2_b"), AdapterFileError),
        (lambda t: t.update(hada_w2_b=torch.ones(3, 7)), AdapterFileError),
        (lambda t: t.update(hada_w1_a=torch.ones(5)), AdapterFileError),
        (lambda t: t.update(alpha=torch.tensor(0.0)), AdapterFileError),
        (
            lambda t: t.update(hada_w1_a=torch.ones(12, 0), hada_w1_b=torch.ones(0, 10)),
            AdapterFileError,
        ),
        (lambda t: t.update(hada_w1_a=torch.tensor(1.0)), AdapterFileError),
        (lambda t: t.update(hada_t1=torch.ones(3, 3, 3)), AdapterFileError),
        (
            lambda t: (
                t.clear(),
                t.update(lokr((3, 3), first=False, second="tucker")),
                t.update(lokr_w2=torch.ones(4, 5)),
            ),
            AdapterFileError,
        ),
        (lambda t: t.update(dora_scale=torch.ones(12, 1)), UnsupportedError),
        (lambda t: t.update(oft_blocks=torch.ones(2, 2)), UnsupportedError),
    ],
)
def test_a_damaged_product_is_an_error(change, error, tmp_path):
    tensors = dict(hada(*LINEAR, tucker=False))
    change(tensors)
    save_file({f"{KEY}.{part}": v for part, v in tensors.items()}, tmp_path / "x.safetensors")
    model = layer(LINEAR)
    with pytest.raises(error):
        lk.load(model, tmp_path / "x.safetensors")
    assert not lk.adapters(model)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("convolution", [False, True])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("Loha", {}), ("Loha", {"use_tucker": True}), ("Loha", {"rs_lora": True}), ("Lokr", {}),
        ("Lokr", {"full_matrix": True}), ("Lokr", {"decompose_both": True, "factor": 2}),
        ("LoCon", {"use_tucker": True}),
    ],
)  # fmt: skip
def test_lycoris_itself_agrees(kind, options, convolution, tmp_path):
    pytest.importorskip("lycoris")
    from importlib import import_module

    module = getattr(import_module(f"lycoris.modules.{kind.lower()}"), f"{kind}Module")
    model = layer(CONVOLUTION if convolution else LINEAR)
    inner = model["mid_block"]["proj_in"]
    made = module(KEY, inner, 1.0, 2, 3.0, **options)
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    tensors = {f"{KEY}.{key}": value.contiguous() for key, value in made.state_dict().items()}
    save_file(tensors, tmp_path / "x.safetensors")
    x = torch.randn(2, 10, 5, 5) if convolution else torch.randn(2, 10)
    expected = made.eval()(x)
    lk.load(model, tmp_path / "x.safetensors")
    torch.testing.assert_close(inner(x), expected, rtol=1e-4, atol=1e-3)
