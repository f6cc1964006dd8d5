"""What `generate` and `predict` share: opening the base and the adapters that are asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lorakit.core.errors import RecipeError

if TYPE_CHECKING:
    from lorakit.eval.session import Session

PRECISIONS = ("fp32", "bf16", "fp16")


def open_voices(
    adapters: list[str] | None, model: str | None, *, with_base: bool, precision: str,
    kind: str | None = None,
) -> Session:  # fmt: skip
    """The session for a verb's options."""
    if precision not in PRECISIONS:
        raise RecipeError(f"--precision is {precision!r}; expected {', '.join(PRECISIONS)}.")
    if not adapters and model is None:
        raise RecipeError("Name --adapter FOLDER or --model FOLDER, or both.")
    from lorakit.eval.session import open_session

    return open_session(
        adapters or [], model=model, with_base=with_base, precision=precision, kind=kind
    )
