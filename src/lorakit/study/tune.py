"""The learning rate of a method, sought under a budget that is the same for every method.

Optuna proposes rates, evenly spread over powers of ten at first and then where they did well (TPE,
Bergstra et al. 2011); each wave of them is halved by rungs of more and more steps (successive
halving, Jamieson & Talwalkar 2016). At every rung the survivors are trained anew with a whole
schedule of that rung's steps, side by side. On the way the loss decides, and at the last rung the
loss or the task's own metric, on rows that are held out of the training rows; the evaluation rows
are never looked at.
"""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lorakit.core.errors import (
    LorakitError,
    MissingExtraError,
    RecipeError,
    ResumeError,
    TrainingError,
)
from lorakit.study.identity import differences, model_digest
from lorakit.study.ledger import Ledger, key_of
from lorakit.study.train import Trained, placeless, train_cells
from lorakit.tasks import make_task
from lorakit.train.identity import hash_data
from lorakit.train.recipe import Recipe

LR = "train.lr"
TRIALS = "trials.jsonl"


@dataclass(frozen=True)
class Budget:
    """How much is spent: `waves` of `trials` rates each, halved at every rung.

    `rungs` are shares of the recipe's steps, the last one 1; from one to the next one in `keep`
    rates goes on. Rates lie between `low` and `high`. `held` is the share of training rows to
    choose by.
    """

    trials: int = 9
    waves: int = 1
    rungs: tuple[float, ...] = (1 / 9, 1 / 3, 1.0)
    keep: int = 3
    low: float = 1e-5
    high: float = 1e-1
    held: float = 0.1

    def __post_init__(self) -> None:
        rising = all(a < b for a, b in zip((0.0, *self.rungs), self.rungs))
        if not (self.trials >= 1 and self.waves >= 1 and self.keep >= 2):
            raise RecipeError(f"{self} is no budget; expected trials, waves >= 1 and keep >= 2.")
        if not (rising and self.rungs and self.rungs[-1] == 1):
            raise RecipeError(f"rungs are {self.rungs}; expected rising shares up to 1.0.")
        if not (0 < self.low < self.high and 0 < self.held < 1):
            raise RecipeError(f"{self} is no budget; expected 0 < low < high and 0 < held < 1.")

    def grid(self) -> list[float]:
        """The rates of the first wave, evenly spread over powers of ten; a lone one in the middle.

        >>> Budget(trials=3, low=1e-4, high=1e-2).grid()
        [0.0001, 0.001, 0.01]
        """
        low, high = math.log(self.low), math.log(self.high)
        places = [0.5] if self.trials == 1 else [i / (self.trials - 1) for i in range(self.trials)]
        rates = [float(f"{math.exp(low + place * (high - low)):.3g}") for place in places]
        return [min(max(rate, self.low), self.high) for rate in rates]

    def survivors(self, rung: int) -> int:
        """How many rates of a wave are trained at a rung, counted from 0."""
        return max(1, math.ceil(self.trials / self.keep**rung))

    def steps(self, whole: int, rung: int) -> int:
        """The steps of a rung, of a run that has so many."""
        return max(1, round(whole * self.rungs[rung]))

    def cost(self, whole: int) -> int:
        """Steps that are trained in all."""
        rungs = range(len(self.rungs))
        return self.waves * sum(self.survivors(rung) * self.steps(whole, rung) for rung in rungs)


@dataclass(frozen=True)
class Trial:
    """One rate at one rung: its steps, and the score, or the error that ended it."""

    wave: int
    rung: int
    lr: float
    steps: int
    score: float | None
    error: str | None = None
    loss: float = math.inf  # what decides which goes on, and between equal scores


@dataclass(frozen=True)
class Tuned:
    """The best rate of those that were trained with all steps, and every trial.

    `at_edge` says that the best is the lowest or the highest rate tried, so that a better one may
    lie outside of what the budget looks at.
    """

    lr: float
    score: float
    metric: str
    trials: list[Trial]
    steps: int
    at_edge: bool


def tune(
    recipe: Recipe, overrides: Mapping[str, Any], *, budget: Budget, folder: Path, seed: int = 0,
    quiet: bool = False,
) -> Tuned:  # fmt: skip
    """The best learning rate for the recipe with a method's overrides, by the seed.

    What was trained is kept in `folder/trials.jsonl`, so that a search that was stopped goes on
    where it was, to the same rates. Raises `ResumeError` where the folder holds another search,
    `TrainingError` where no rate could be trained, `MissingExtraError` without optuna.
    """
    whole = recipe.train.steps
    if whole is None:
        raise RecipeError("A budget is counted in steps: set train.steps in the recipe.")
    search = _Search(recipe, overrides, budget, folder, seed, quiet, whole)
    with _sampler(budget, seed) as study:
        for wave in range(budget.waves):
            _wave(study, wave, search)
    last = [t for t in search.trials if t.rung == len(budget.rungs) - 1 and t.score is not None]
    if not last:
        errors = [trial.error for trial in search.trials if trial.error]
        raise TrainingError(f"No learning rate could be trained to the end; the first: {errors[0]}")
    sign = -1 if search.more_is_better else 1
    best = min(last, key=lambda trial: (sign * (trial.score or 0.0), trial.loss))
    assert best.score is not None
    rates = sorted(trial.lr for trial in search.trials)
    return Tuned(
        best.lr, best.score, search.metric, search.trials, sum(t.steps for t in search.trials),
        best.lr in (rates[0], rates[-1]) and len(set(rates)) > 1,
    )  # fmt: skip


class _Search:
    """Rates are trained here, or their scores are found in the ledger."""

    def __init__(
        self, recipe: Recipe, overrides: Mapping[str, Any], budget: Budget, folder: Path,
        seed: int, quiet: bool, whole: int,
    ) -> None:  # fmt: skip
        if LR in overrides:
            raise RecipeError(f"{LR} is what is sought. Leave it out of the overrides.")
        name, self.more_is_better = make_task(recipe.task, recipe.data).best
        self.metric = f"eval_{name}"
        data = recipe.data.model_copy(update={"eval": None, "eval_share": budget.held})
        self.recipe = recipe.model_copy(update={"data": data})
        self.overrides, self.budget, self.folder = overrides, budget, folder
        self.seed, self.quiet, self.whole = seed, quiet, whole
        self.trials: list[Trial] = []
        self.ledger = Ledger(folder / TRIALS)
        self.known = self._known()

    def tried(self, wave: int, rung: int, rates: list[float]) -> list[Trial]:
        """What became of each rate at a rung."""
        steps = self.budget.steps(self.whole, rung)
        missing = [lr for lr in rates if key_of({"lr": lr, "steps": steps}) not in self.known]
        chosen = [self._settings(lr, steps) for lr in missing]
        place = self.folder / "work"
        ended = train_cells(self.recipe, chosen, place, quiet=self.quiet) if chosen else []
        for lr, own in zip(missing, ended):
            self._keep(lr, steps, own)
        shutil.rmtree(place, ignore_errors=True)
        found = []
        for lr in rates:
            entry = self.known[key_of({"lr": lr, "steps": steps})]
            loss = math.inf if entry["loss"] is None else entry["loss"]
            found.append(Trial(wave, rung, lr, steps, entry["score"], entry["error"], loss))
        self.trials += found
        return found

    def _settings(self, lr: float, steps: int) -> dict[str, Any]:
        # One evaluation at the end: a search that looked more often would choose by luck as well.
        return {
            **self.overrides, LR: lr, "train.steps": steps, "train.seed": self.seed,
            "train.eval_every": steps, "train.patience": None,
        }  # fmt: skip

    def _keep(self, lr: float, steps: int, own: Trained | LorakitError) -> None:
        score = None if isinstance(own, LorakitError) else own.metrics.get(self.metric)
        good = score is not None and math.isfinite(score)
        error = str(own) if isinstance(own, LorakitError) else f"{self.metric} is {score}"
        loss = None if isinstance(own, LorakitError) else own.metrics.get("eval_loss")
        entry = {
            "lr": lr, "steps": steps, "score": score if good else None,
            "loss": loss if loss is not None and math.isfinite(loss) else None,
            "error": None if good else error,
        }  # fmt: skip
        self.ledger.add(entry)
        self.known[key_of({"lr": lr, "steps": steps})] = entry

    def _known(self) -> dict[str, dict[str, Any]]:
        """What the folder holds of this search, which its first line tells."""
        told = {
            "recipe": placeless(self.recipe.model_dump()), "seed": self.seed,
            "overrides": dict(self.overrides), "model": model_digest(self.recipe.model),
            "data": hash_data(self.recipe),
        }  # fmt: skip
        told = json.loads(json.dumps(told))
        self.folder.mkdir(parents=True, exist_ok=True)
        self.ledger.mend()
        entries = self.ledger.read()
        if not entries:
            self.ledger.add(told)
            return {}
        begun = entries[0] | {"recipe": placeless(entries[0]["recipe"])}
        changed = differences(begun, told)
        if changed:
            raise ResumeError(
                f"{self.folder} holds another search: {changed[0]}. Choose another folder."
            )
        return {key_of({"lr": e["lr"], "steps": e["steps"]}): e for e in entries[1:]}


def _wave(study: Any, wave: int, search: _Search) -> None:
    """Ask for rates, halve them rung by rung, and tell what became of each."""
    from optuna.trial import TrialState

    budget = search.budget
    asked = [study.ask() for _ in range(budget.trials)]
    rates = [trial.suggest_float(LR, budget.low, budget.high, log=True) for trial in asked]
    alive = list(range(len(asked)))
    sign = -1 if search.more_is_better else 1
    for rung in range(len(budget.rungs)):
        tried = dict(zip(alive, search.tried(wave, rung, [rates[i] for i in alive])))
        last = rung + 1 == len(budget.rungs)
        good = sorted(
            # Short runs are told apart by their loss: many have the same accuracy, that of the
            # commoner class.
            (sign * own.score, own.loss, i) if last else (own.loss, sign * own.score, i)
            for i, own in tried.items() if own.score is not None
        )  # fmt: skip
        kept = [i for *_, i in good][: len(good) if last else budget.survivors(rung + 1)]
        for number, own in tried.items():
            value = own.score
            if value is None:
                study.tell(asked[number], state=TrialState.FAIL)
                continue
            asked[number].report(sign * value, rung)
            if last:
                study.tell(asked[number], sign * value)
            elif number not in kept:
                study.tell(asked[number], state=TrialState.PRUNED)
        alive = sorted(kept)


@contextlib.contextmanager
def _sampler(budget: Budget, seed: int) -> Iterator[Any]:
    """Optuna's study in memory: the first wave on an even grid of powers, then TPE."""
    try:
        import optuna
    except ImportError as error:
        raise MissingExtraError(
            "Tuning needs optuna, which is not installed: pip install 'lorakit[study]'."
        ) from error
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=budget.trials)
        study = optuna.create_study(sampler=sampler)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # to enqueue was experimental for some releases
            for rate in budget.grid():
                study.enqueue_trial({LR: rate})
        yield study
    finally:
        optuna.logging.set_verbosity(level)
