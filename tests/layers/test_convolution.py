"""Convolutions of one to three dimensions: merging, rows, and PEFT's folders both ways."""

from __future__ import annotations

import peft
import pytest
import torch
from torch import nn

import lorakit as lk
from families import build, inputs, randomise
from lorakit.core.errors import BaseMismatchError, UnsupportedError

KINDS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
OPTIONS = {
    "plain": {},
    "strided": {"stride": 2, "padding": 1},
    "dilated": {"dilation": 2, "padding": 2},
    "same": {"padding": "same"},
    "circular": {"padding": 1, "padding_mode": "circular"},
    "a point": {"kernel_size": 1},
}
GROUPED = {
    "grouped": {"groups": 2},
    "grouped, dilated, mirrored": {
        "groups": 2, "dilation": 2, "padding": 2, "padding_mode": "reflect"
    },
}  # fmt: skip


def each(options: dict):
    return pytest.mark.parametrize(
        ("dims", "options"),
        [(dims, chosen) for dims in KINDS for chosen in options.values()],
        ids=[f"{dims}d {name}" for dims in KINDS for name in options],
    )


EACH = each({**OPTIONS, **GROUPED})


class Net(nn.Module):
    """A convolution between others."""

    def __init__(self, dims: int, **options):
        super().__init__()
        torch.manual_seed(0)
        kind = KINDS[dims]
        self.first = kind(3, 6, 3, padding=1)
        self.second = kind(6, 8, **{"kernel_size": 3, **options})
        self.head = nn.Linear(8, 4)

    def forward(self, x):
        h = self.second(self.first(x).relu()).relu()
        return self.head(h.flatten(2).mean(2))


def picture(dims: int, rows: int = 3) -> torch.Tensor:
    return torch.randn(rows, 3, *[7] * dims, generator=torch.Generator().manual_seed(1))


def adapted(dims: int, *names: str, **options) -> Net:
    model = Net(dims, **options).eval()
    for seed, name in enumerate(names):
        lk.inject(model, {"first": 2, "second": 3}, name=name, method=lk.LoRA(alpha=6))
        randomise(model, name, seed=seed, scale=0.3)
    lk.activate(model)
    return model


@EACH
def test_fresh_is_nothing_and_merged_is_unmerged(dims, options):
    model, x = Net(dims, **options).eval(), picture(dims)
    before = model(x)
    lk.inject(model, {"second": 3}, name="a")
    assert torch.equal(model(x), before)
    randomise(model, "a", scale=0.3)
    changed = model(x)
    assert (changed - before).abs().max() > 0.01
    with lk.merged(model, "a"):
        torch.testing.assert_close(model(x), changed, rtol=1e-5, atol=1e-5)
    with lk.use(model):
        assert torch.equal(model(x), before)


@EACH
def test_rows_of_a_mixed_batch(dims, options):
    model, x = adapted(dims, "a", "b", **options), picture(dims)
    with lk.use(model, per_sample=["a", None, "b"]):
        mixed = model(x)
    for row, names in enumerate([("a",), (), ("b",)]):
        with lk.use(model, *names):
            torch.testing.assert_close(mixed[row], model(x)[row], rtol=1e-5, atol=1e-5)


@each(OPTIONS)
def test_peft_and_ours_load_each_other(dims, options, tmp_path):
    model, x = adapted(dims, "a", **options), picture(dims)
    with lk.use(model, "a"):
        expected = model(x)
    lk.save(model, tmp_path / "ours", name="a")
    theirs = peft.PeftModel.from_pretrained(Net(dims, **options), str(tmp_path / "ours")).eval()
    if {"dilation", "padding_mode"} & options.keys():
        theirs.merge_adapter()  # PEFT's forward forgets them; what it merges is right
    torch.testing.assert_close(theirs(x), expected, rtol=1e-5, atol=1e-5)

    theirs.save_pretrained(str(tmp_path / "theirs"))
    again = Net(dims, **options).eval()
    lk.load(again, tmp_path / "theirs", name="back")
    torch.testing.assert_close(again(x), expected, rtol=1e-5, atol=1e-5)
    lk.save(again, tmp_path / "again", name="back")
    tensors = [tmp_path / name / "adapter_model.safetensors" for name in ("ours", "again")]
    assert tensors[0].read_bytes() == tensors[1].read_bytes()


def test_another_kernel_is_another_base(tmp_path):
    lk.save(adapted(2, "a"), tmp_path / "a", name="a")
    other = Net(2, kernel_size=(1, 9), padding=(0, 4))  # as many points, in another shape
    with pytest.raises(BaseMismatchError, match=r"kernel \(3, 3\)"):
        lk.load(other, tmp_path / "a", check_base=False)
    assert not lk.adapters(other)


@each(GROUPED)
@pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd")
def test_groups_come_back_and_peft_notices_that_they_are_not_its_own(dims, options, tmp_path):
    model, x = adapted(dims, "a", **options), picture(dims)
    with lk.use(model, "a"):
        expected = model(x)
    lk.save(model, tmp_path / "ours", name="a")
    again = Net(dims, **options).eval()
    lk.load(again, tmp_path / "ours", name="back")
    assert torch.equal(again(x), expected)
    with pytest.raises((RuntimeError, ValueError), match=r"size mismatch|divisible by groups"):
        peft.PeftModel.from_pretrained(Net(dims, **options), str(tmp_path / "ours"))


@pytest.mark.filterwarnings("ignore:LoRA adapter added to ConvNd")
def test_groups_as_peft_has_them_are_refused_by_type(tmp_path):
    config = peft.LoraConfig(r=4, target_modules=["second"])
    theirs = peft.get_peft_model(Net(2, groups=2), config)
    theirs.save_pretrained(str(tmp_path / "theirs"))
    model = Net(2, groups=2)
    with pytest.raises(UnsupportedError, match="mixes the channels of all groups"):
        lk.load(model, tmp_path / "theirs")
    assert not lk.adapters(model)


def test_depthwise_is_the_change_of_one_matrix():
    model, x = nn.Sequential(nn.Conv2d(6, 12, 3, groups=6)), torch.randn(2, 6, 5, 5)
    lk.inject(model, {"0": 2}, name="a")
    randomise(model, "a", scale=0.3)
    update = model[0].lora.a0.low_rank
    assert (update.A.shape, update.B.shape) == ((2, 9), (12, 2))
    weight = model[0].weight + update.scale * (update.B @ update.A).view(12, 1, 3, 3)
    expected = nn.functional.conv2d(x, weight, model[0].bias, groups=6)
    torch.testing.assert_close(model(x), expected)


def test_a_network_of_images_trains_and_comes_back(tmp_path):
    model, batch = build("resnet"), inputs(build("resnet"), rows=4)
    lk.inject(model, lk.plan(model, ["*.convolution", "head"], 2), name="a")
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2)
    labels = torch.tensor([0, 1, 2, 3])
    losses = []
    for _ in range(12):
        loss = model(**batch, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    lk.save(model, tmp_path / "a", name="a")
    again = build("resnet")
    lk.load(again, tmp_path / "a")
    assert torch.equal(again(**batch).logits, model(**batch).logits)
