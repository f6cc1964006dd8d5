"""Subspaces: what adapters of other ranks and seeds have in common, and what they strengthen."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from lorakit.analysis.factored import Spectrum
from lorakit.analysis.subspace import (
    amplification,
    directions,
    effective_rank,
    participation,
    random_directions,
    similarity,
)
from lorakit.core.errors import AdapterFileError, LorakitError, RecipeError
from lorakit.core.state import AdapterState
from lorakit.eval.session import adapter_folder, open_session
from lorakit.formats.load import read_adapter
from lorakit.formats.packing import folded
from lorakit.layers.form import Form
from lorakit.models.load import load_base
from lorakit.study import subspace_page
from lorakit.study.kinds import Cell, Figures, Record, Setting, Shown
from lorakit.study.measure import once
from lorakit.study.options import one_of
from lorakit.study.runs import recipe_of
from lorakit.study.train import ADAPTER, folder_name, train_cells
from lorakit.tasks import make_task

DIGITS = 4
RANDOM = "random"
OF = ("A", "change")  # whose input directions are compared


class Subspace:
    """Adapters compared in pairs, and each with the weights it changes."""

    name = "subspace"
    trains = True
    title = "Subspaces: what adapters learn, and where it lies in the weights"
    grows = ()
    why = (
        "Is the change that training finds of low rank? Do adapters of other ranks and seeds find "
        "the same directions, and does the change repeat the weight's own or strengthen others "
        "(Hu et al. 2021, section 7, figures 3 and 4, table 7)?"
    )

    def options(self, *, quick: bool) -> dict[str, Any]:
        """`ranks`, `seeds` and `targets` are of the adapters it trains where none are given.

        Of every kind of layer `layers` are shown, from the first to the last; `directions` of each.
        Pairs are compared by what A listens to, as in the paper, or by what the `change` B A does.
        """
        return {
            "ranks": [8, 64], "seeds": [0, 1], "targets": ["q", "v"], "of": "A",
            "layers": 2 if quick else 3, "directions": 64,
        }  # fmt: skip

    def cells(self, setting: Setting) -> list[Cell]:
        """The adapters where they are to be trained, each by itself, pairs, and random controls."""
        one_of(setting, "of", OF)
        if not setting.adapters and setting.recipe is None:
            raise RecipeError("Nothing to look at: name adapters with --adapter, or a recipe.")
        names = list(_places(setting, Path()))
        if setting.adapters and len(set(names)) < len(setting.adapters):
            raise RecipeError("Two adapters are the same folder. Name each of them once.")
        trained = [] if setting.adapters else [Cell({"train": name}) for name in names]
        pairs = list(itertools.combinations(names, 2))
        return [
            *trained,
            *(Cell({"adapter": name}) for name in names),
            *(Cell({"adapter": one, "beside": two}) for one, two in pairs),
            *(Cell({"adapter": RANDOM, "beside": RANDOM, "like": name}) for name in names),
        ]

    def group(self, cell: Cell) -> Hashable:
        """Training goes side by side; then all that looks at adapters, which are read once."""
        return "train" in cell.settings

    def measure(
        self, cells: Sequence[Cell], setting: Setting, folder: Path
    ) -> Iterator[Figures | LorakitError]:
        """Metrics of training; similarities of a pair; spectrum and amplification of one."""
        if self.group(cells[0]):
            overrides = _overrides(setting)
            wanted = [overrides[cell.settings["train"]] for cell in cells]
            for own in train_cells(recipe_of(setting), wanted, folder, quiet=setting.quiet):
                yield own if isinstance(own, LorakitError) else own.metrics
            return
        looked = _Adapters(setting, folder)
        for cell in cells:
            yield looked.at(cell.settings)

    def show(self, records: Sequence[Record], setting: Setting) -> Shown:
        """See `subspace_page`."""
        return subspace_page.show(records, setting.option("of"))


def _overrides(setting: Setting) -> dict[str, dict[str, Any]]:
    """The runs it trains, by the names it gives them."""
    targets = setting.option("targets")
    return {
        f"r {rank}, seed {seed}": {
            **once(recipe_of(setting)), "lora.rank": rank, "lora.targets": targets,
            "train.seed": seed,
        }
        for rank in setting.option("ranks")
        for seed in setting.option("seeds")
    }  # fmt: skip


def _places(setting: Setting, folder: Path) -> dict[str, Path]:
    """The folder of every adapter, by the name it has here."""
    if not setting.adapters:
        return {n: folder / folder_name(o) / ADAPTER for n, o in _overrides(setting).items()}
    paths = [adapter_folder(own) for own in dict.fromkeys(setting.adapters)]
    return dict(zip(_names(paths), paths))


def _names(paths: Sequence[Path]) -> list[str]:
    """The shortest ends of paths that tell them apart."""
    whole = [path.resolve().parts for path in paths]
    for length in range(1, max(map(len, whole)) + 1):
        ends = ["/".join(parts[-length:]) for parts in whole]
        if len(set(ends)) == len(ends):
            return ends
    return ["/".join(parts) for parts in whole]


class _Adapters:
    """Adapters and the base's weights, read when they are first asked for."""

    def __init__(self, setting: Setting, folder: Path) -> None:
        self.setting = setting
        self.places = _places(setting, folder)
        self.states: dict[str, AdapterState] = {}
        if setting.adapters:
            first = str(next(iter(self.places.values())))
            self.model = open_session([first], model=setting.model, device="cpu").model
        else:
            assert setting.recipe is not None
            kind = make_task(setting.recipe.task, setting.recipe.data).kind
            self.model = load_base(setting.model, kind).model

    def at(self, settings: Mapping[str, Any]) -> Figures | LorakitError:
        """The figures of one cell, or why there are none."""
        try:
            return self._at(settings)
        except LorakitError as error:
            return error

    def _at(self, settings: Mapping[str, Any]) -> Figures:
        if "beside" not in settings:
            return self._alone(settings["adapter"])
        if settings["adapter"] == RANDOM and "like" in settings:
            return self._by_chance(settings["like"])
        return self._beside(settings["adapter"], settings["beside"])

    def _state(self, name: str) -> AdapterState:
        if name not in self.states:
            self.states[name] = read_adapter(self.places[name], model=self.model)
        return self.states[name]

    def _modules(self, *names: str) -> list[str]:
        """The layers shown: of every kind some, evenly spread, that all of the adapters change."""
        states = [self._state(name) for name in names]
        common = [
            path
            for path, low in states[0].low_rank.items()
            if not low.experts and all(path in other.low_rank for other in states[1:])
        ]
        if not common:
            raise AdapterFileError(f"{' and '.join(names)} have no layer in common to look at.")
        kinds: dict[str, list[str]] = {}
        for path in common:
            kinds.setdefault(path.rpartition(".")[2], []).append(path)
        most = self.setting.option("layers")
        return [path for paths in kinds.values() for path in _spread(paths, most)]

    def _alone(self, name: str) -> Figures:
        state, found = self._state(name), {}
        for path in self._modules(name):
            change = _change(state, path)
            weight = Form.of(self.model, path).matrix()
            measured = amplification(weight, change, state.low_rank[path].rank)
            found[path] = {
                "rank": measured.rank, "change": measured.change, "weight": measured.weight,
                "along": measured.along, "along_top": measured.along_top,
                "along_random": measured.along_random,
                "effective_rank": effective_rank(change.S),
                "participation": participation(change.S),
                "rank_90": change.rank_for(0.9), "rank_99": change.rank_for(0.99),
                "values": [round(value, 6) for value in change.S.tolist()],
            }  # fmt: skip
        return {"modules": found}

    def _beside(self, one: str, two: str) -> Figures:
        """What both listen to: the right singular vectors of each one's A."""
        states, most = (self._state(one), self._state(two)), self.setting.option("directions")
        found = {}
        for path in self._modules(one, two):
            mine, other = (self._directions(own, path)[:, :most] for own in states)
            found[path] = _rounded(similarity(mine, other))
        return {"similarity": found, "ranks": [_rank(own) for own in states]}

    def _directions(self, state: AdapterState, path: str) -> torch.Tensor:
        if self.setting.option("of") == "A":
            return directions(state.low_rank[path].A)
        change = _change(state, path)
        return change.V[:, 1e-6 * change.S.max() < change.S]

    def _by_chance(self, name: str) -> Figures:
        """Random spaces of the sizes of an adapter's: what similarity is worth nothing."""
        state, most = self._state(name), self.setting.option("directions")
        numbers, found = torch.Generator().manual_seed(0), {}
        for path in self._modules(name):
            low = state.low_rank[path]
            count = min(low.rank, most, low.A.shape[1])
            one, two = (random_directions(low.A.shape[1], count, numbers) for _ in range(2))
            found[path] = _rounded(similarity(one, two))
        return {"similarity": found, "ranks": [_rank(state)] * 2}


def _change(state: AdapterState, path: str) -> Spectrum:
    low = state.low_rank[path]
    plain = folded(low)
    return Spectrum.of(plain.A.double() * state.scale(low), plain.B)


def _rank(state: AdapterState) -> int:
    return max(low.rank for low in state.low_rank.values())


def _rounded(grid: torch.Tensor) -> list[list[float]]:
    return [[round(value, DIGITS) for value in row] for row in grid.tolist()]


def _spread(paths: list[str], count: int) -> list[str]:
    """At most so many, the first and the last among them."""
    if count >= len(paths) or count < 2:
        return paths[: max(count, 1)]
    return [paths[place * (len(paths) - 1) // (count - 1)] for place in range(count)]
