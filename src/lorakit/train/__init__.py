"""The engines of training: `lorakit train` and `AdapterTrainer`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lorakit.train.trainer import AdapterTrainer as AdapterTrainer

__all__ = ["AdapterTrainer"]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    # Hugging Face's Trainer takes seconds to import, and reading a recipe does not need it.
    if name == "AdapterTrainer":
        from lorakit.train.trainer import AdapterTrainer

        return AdapterTrainer
    raise AttributeError(f"module 'lorakit.train' has no attribute {name!r}")
