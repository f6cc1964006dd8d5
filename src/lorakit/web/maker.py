"""What the values of the training form mean: handlers without components."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from lorakit.core.errors import LorakitError
from lorakit.models.brief import brief
from lorakit.models.load import named_structure
from lorakit.models.plan import plan
from lorakit.tasks.chat import template_file
from lorakit.train.kept import Kept, rows_of
from lorakit.train.preview import Preview, preview
from lorakit.train.recipe import Recipe, get_field, make_recipe, parse_recipe, set_field
from lorakit.web.blocks import blocks_of, draw, toggled
from lorakit.web.choices import STORIES, Choices
from lorakit.web.estimate import estimate
from lorakit.web.fields import Field, as_yaml, raw_of, shown_of
from lorakit.web.told import caught


class Maker:
    """The handlers of the form; `values` are base, data, task and name, then every field."""

    def __init__(self, choices: Choices, known: list[Field]) -> None:
        self.choices = choices
        self.known = known

    def raw(self, base: str, data: str, task: str, name: str, *shown: Any) -> dict[str, Any]:
        """The recipe's mapping, with what is not a default; raises `LorakitError`."""
        given = {
            "model": self.choices.base(base), "task": task, **self.choices.data(data),
            "output": self.choices.output(name),
        }  # fmt: skip
        return raw_of(self.known, list(shown), given)

    def recipe(self, *values: Any) -> Recipe:
        """The whole recipe; paths in other fields are below the roots as well."""
        return self._inside(make_recipe(self.raw(*values)))

    def texts(self, *values: Any) -> tuple[str, str, str]:
        """(the recipe as YAML, the command that does the same, what is wrong)."""
        with caught() as wrong:
            raw = self.raw(*values)
            self._inside(make_recipe(raw))
            return as_yaml(raw), f"lorakit train {values[3].strip().replace(' ', '-')}.yaml", ""
        return "", "", wrong.message

    def blocks(self, *values: Any) -> str:
        """The table of layers for the recipe as it is."""
        with caught() as wrong:
            recipe = self.recipe(*values)
            model = named_structure(recipe.model)
            return str(draw(blocks_of(model), self._plan(model, recipe)))
        return wrong.html

    def clicked(self, cells: list[str], rank: float, *values: Any) -> list[Any]:
        """The form's fields after cells of the table were clicked."""
        recipe = self.recipe(*values)
        model = named_structure(recipe.model)
        known = set(blocks_of(model).cells.values())
        chosen = toggled(self._plan(model, recipe), [c for c in cells if c in known], int(rank))
        targets, ranks = brief(model, chosen)
        return self.with_fields({"lora.targets": targets, "lora.rank": ranks}, *values)

    def with_fields(self, changes: Mapping[str, Any], *values: Any) -> list[Any]:
        """What the form's fields show when some of them are set."""
        raw = self.raw(*values)
        for name, value in changes.items():
            set_field(raw, name, value)
        return shown_of(self.known, raw)

    def from_yaml(self, text: str, name: str) -> list[Any]:
        """Every component's value for a recipe that was typed; raises `LorakitError`."""
        raw = parse_recipe(text)
        raw.setdefault("output", self.choices.output(name))
        recipe = self._inside(make_recipe(raw))
        if recipe.sweep:
            raise LorakitError("A sweep of runs is for the command line: lorakit train FILE.")
        stories = self.choices.data(STORIES)["data.train"]
        data = STORIES if recipe.data.train == stories else recipe.data.train
        said = str(recipe.output).rpartition("/")[2]
        return [recipe.model, data, recipe.task, said, *shown_of(self.known, raw)]

    def estimated(self, *values: Any) -> str:
        """The line that says what the training would take; nothing for a recipe that is wrong."""
        with caught():
            recipe = self.recipe(*values)
            with caught() as wrong:
                return estimate(recipe).html()
            return wrong.html
        return ""

    def rows(self, *values: Any) -> str:
        """Some rows as training sees them."""
        with caught() as wrong:
            return rendered(_previewed(self.recipe(*values)))
        return wrong.html

    def data_chosen(self, base: str, data: str) -> tuple[list[str], list[Any], str]:
        """(the goals that fit, the fields' values for these data, what is wrong)."""
        shown = [own.shown(own.default) for own in self.known]
        with caught() as wrong:
            if data == STORIES:
                raw = self.choices.stories()
                if self.choices.base(base) == raw["model"]:
                    return ["completion"], shown_of(self.known, raw), ""
                raw["train"] = {}
                raw["lora"] = {}
                return ["completion"], shown_of(self.known, raw), ""
            fitting = self.choices.goals(self.choices.base(base), self.choices.data(data))
            return fitting, shown, ""
        return [], shown, wrong.html

    def _plan(self, model: Any, recipe: Recipe) -> Mapping[str, int]:
        targets = recipe.lora.targets or "all-linear"
        return plan(model, targets, recipe.lora.rank)

    def _inside(self, recipe: Recipe) -> Recipe:
        place = self.choices.place
        for name in ("data.train", "data.eval", "output"):
            value = get_field(recipe.model_dump(), name)
            if value is not None:
                place.inside(value)
        template = recipe.data.chat_template
        if template is not None and template_file(template) is not None:
            place.inside(template)
        self.choices.base(recipe.model)
        return recipe


def rendered(found: Preview) -> str:
    """Rows of a preview, with what is learned marked."""
    rows = Markup("").join(
        Markup("<li>{}{}</li>").format(
            Markup("").join(
                Markup("<mark>{}</mark>" if own.learned else "<span>{}</span>").format(own.text)
                for own in row.pieces
            ),
            Markup(' <b class="answer">{}</b>').format(row.answer)
            if row.answer is not None
            else "",
        )
        for row in found.shown
    )
    cut = f" {found.cut} of them would be cut to {found.limit}." if found.cut else ""
    return str(
        Markup(
            "<p>{:,} rows to train on, {:,} to evaluate on; of {:,} the median has {} tokens, the "
            "longest {}.{} <mark>Marked</mark> is what is learned.</p>"
            '<ol class="rows">{}</ol>'
        ).format(
            found.rows, found.held, found.seen, found.median, found.longest, cut, rows
        )
    )  # fmt: skip


_previewed = Kept(preview, rows_of)
