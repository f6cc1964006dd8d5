"""What `eval`, `generate` and `predict` share: the base and the adapters that are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorakit.core.errors import RecipeError, did_you_mean

if TYPE_CHECKING:
    from lorakit.eval.session import Session

PRECISIONS = ("fp32", "bf16", "fp16")
QUANTISED = ("nf4", "int8", "torchao-int8")


def open_voices(
    adapters: list[str] | None, model: str | None, *, with_base: bool, precision: str,
    quantise: str | None = None, kind: str | None = None,
) -> Session:  # fmt: skip
    """The session for a verb's options."""
    check_options(adapters, model, precision=precision, quantise=quantise)
    from lorakit.eval.session import open_session

    return open_session(
        adapters or [],
        model=model,
        with_base=with_base,
        precision=precision,
        quantise=quantise,
        kind=kind,
    )


def check_options(
    adapters: list[str] | None, model: str | None, *, precision: str, quantise: str | None
) -> None:
    """Raise `RecipeError` for what no base or adapter can be opened with."""
    if precision not in PRECISIONS:
        raise RecipeError(f"--precision is {precision!r}; expected {', '.join(PRECISIONS)}.")
    if quantise not in (None, "none", *QUANTISED):
        raise RecipeError(
            f"--quantise is {quantise!r}; expected none, {', '.join(QUANTISED)}."
            + did_you_mean(quantise, ("none", *QUANTISED))
        )
    if not adapters and model is None:
        raise RecipeError("Name --adapter FOLDER or --model FOLDER, or both.")
