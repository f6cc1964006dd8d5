"""What a recipe says about data, and the kinds of values that its parts share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def number(value: object) -> object:
    """Refuse true and false where a number is expected."""
    # To pydantic true is 1; to a person it is a slip.
    if isinstance(value, bool):
        raise ValueError(f"expected a number, got {value}")
    return value


Whole = Annotated[int, BeforeValidator(number), Field(ge=1)]
Count = Annotated[int, BeforeValidator(number), Field(ge=0)]
Positive = Annotated[float, BeforeValidator(number), Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, BeforeValidator(number), Field(ge=0, lt=1)]
Rank = Annotated[int, BeforeValidator(number), Field(ge=0)]
Alpha = Annotated[float, BeforeValidator(number), Field(allow_inf_nan=False)]


class Part(BaseModel):
    """A part of the recipe: unknown fields are errors."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())

    @model_validator(mode="after")
    def _written(self) -> Part:
        """A recipe is a file: each text in it can be written."""
        for name, value in self:
            if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
                raise ValueError(f"{name} holds one half of a pair of UTF-16, which is no text")
        return self


class DataOptions(Part):
    """Where the rows are, and which of their fields mean what."""

    benchmark: str | None = Field(
        default=None, description="whose official files these are, such as glue/sst2"
    )
    train: str = Field(description="training rows: a file, a folder or a hub dataset id")
    eval: str | None = Field(
        default=None, description="evaluation rows; else `eval_share` is held out"
    )
    eval_share: Share = Field(
        default=0.0, description="share of the training rows held out if no `eval`"
    )
    train_rows: Whole | None = Field(default=None, description="take only the first so many rows")
    eval_rows: Whole | None = Field(default=None, description="take only the first so many rows")
    prompt: str | None = Field(
        default=None, description='template of the prompt, such as "{question}\\n"'
    )
    completion: str | None = Field(default=None, description="template of what is to be learned")
    text: str | None = Field(default=None, description="field or template of the text")
    pair: str | None = Field(default=None, description="field or template of a second text")
    label: str | None = Field(default=None, description="field of the label or score")
    messages: str | None = Field(default=None, description="field of the conversation")
    chat_template: str | None = Field(
        default=None, description="'chatml', a Jinja template or its file"
    )
    end: str | None = Field(
        default=None, description="token that ends a text; else the tokenizer's own"
    )
    columns: list[str] | None = Field(
        default=None, description="names of columns, for csv without header"
    )
    encoding: str = Field(default="utf-8", description="encoding of text files")
    max_length: Whole | None = Field(
        default=None, description="longest row in tokens; longer ones are cut"
    )
