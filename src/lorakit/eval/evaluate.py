"""Evaluation: what a base and its adapters make of a benchmark's rows, side by side."""

from __future__ import annotations

import copy
import json
import logging
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from lorakit.core.fingerprint import fingerprint
from lorakit.core.folder import write_whole
from lorakit.core.registry import registry_of
from lorakit.eval.generate import Decoding, write
from lorakit.eval.marks import mark, signatures
from lorakit.eval.outcome import Evaluation, Voice
from lorakit.eval.questions import questions, settle
from lorakit.eval.record import Answers, check_same, file_of, recorded, write_identity
from lorakit.eval.report import write_report
from lorakit.eval.score import Scored, evaluate_rows
from lorakit.eval.session import Session, about, adapter_folder, open_session
from lorakit.eval.subject import Subject, What, choose
from lorakit.formats.files import read_folder
from lorakit.formats.manifest import MANIFEST, sha256
from lorakit.models.ending import check_end
from lorakit.tasks.chat import turn_end, with_template
from lorakit.tasks.classification import ClassificationTask
from lorakit.tasks.data import longest_row

log = logging.getLogger("lorakit")


@dataclass(frozen=True)
class Who:
    """Who is asked: adapters, by their folders, over one base, and perhaps the base itself."""

    adapters: tuple[str, ...] = ()
    model: str | None = None
    with_base: bool = False
    precision: str = "fp32"
    quantise: str | None = None
    device: str = "auto"


def evaluate(
    who: Who, what: What | None = None, *, out: str | Path | None = None,
    resume: bool = False, quiet: bool = False,
) -> Evaluation:  # fmt: skip
    """Ask every voice for the answers to the same rows, and measure them.

    With `out` each answer is kept there as it is written, and `eval.json`, `report.md` and pictures
    at the end; `resume` goes on with an evaluation that was stopped, and raises `ResumeError`
    unless base, adapters, rows and options are the same.
    """
    what = what or What()
    folder = None if out is None else Path(out).expanduser()
    old = None if folder is None else recorded(folder, resume=resume)
    places = [adapter_folder(place) for place in who.adapters]
    subject = choose([about(place)[2] for place in places], what)
    kind = subject.make_task(0).kind
    session = open_session(
        who.adapters, model=who.model, kind=kind, with_base=who.with_base,
        precision=who.precision, quantise=who.quantise, device=who.device,
    )  # fmt: skip
    digests = dict(zip(session.runs, map(_digest, places)))
    identity = _identity(session, subject, who, what, digests)
    if folder is not None:
        if old is not None:
            check_same(folder, old, identity)
        else:
            write_identity(folder, identity)
    found = Evaluation(session.model.config._name_or_path, identity, subject, [])
    folders = dict(zip(session.runs, map(str, places)))
    for voice in session.voices:
        log.info("%s: %d rows", voice, len(subject.rows))
        found.voices.append(Voice(voice, folders.get(voice)))
        _measure(session, found, what, folder, quiet=quiet)
    if folder is not None:
        write_report(found, folder)
    return found


def _identity(
    session: Session, subject: Subject, who: Who, what: What, digests: dict[str, str]
) -> dict[str, Any]:
    """All that makes two evaluations the same one, as JSON."""
    registry = registry_of(session.model)
    replaced = [path for own in digests if registry for path in registry.entry(own).replaced]
    return {
        "base": fingerprint(session.model, without=replaced),
        "adapters": digests,
        "voices": list(session.voices),
        "task": subject.task,
        "benchmark": subject.options[0].benchmark,
        "data": subject.place,
        "split": subject.split,
        "rows": len(subject.rows),
        "questions": len(subject.groups),
        "sha256": subject.digest(),
        "metrics": list(subject.metrics),
        "decoding": asdict(what.decoding),
        "precision": who.precision,
        "quantise": who.quantise,
    }


def _digest(folder: Path) -> str:
    """The sha256 of an adapter's files, its manifest left out, which tells of the run alone."""
    files, _ = read_folder(folder)
    told = {name: sha256(content) for name, content in files.items() if name != MANIFEST}
    return sha256(json.dumps(told, sort_keys=True).encode())


def _measure(
    session: Session, found: Evaluation, what: What, folder: Path | None, *, quiet: bool
) -> None:
    """The figures of the last voice: of given answers, and of answers that it writes."""
    voice, subject = found.voices[-1], found.subject
    labels = list(session.runs)
    number = labels.index(voice.label) if voice.label in labels else 0  # the base is asked alike
    run = session.runs[labels[number]] if labels else {}
    task, tokenizer = subject.make_task(number), _ended(session.tokenizer, run.get("end"))
    names = [] if session.voices[voice.label] is None else [voice.label]

    longest = longest_row(task, tokenizer, session.model.config, subject.options[number])
    rows = task.encode(task.read(subject.rows, training=False), tokenizer, longest)
    if task.cut:
        log.warning("%d rows are longer than %d tokens and were cut", task.cut, longest)
    with _bar(f"{voice.label}: rows", len(rows), quiet) as bar:
        scored = evaluate_rows(
            session.model, task, rows, padding=tokenizer.pad_token_id,
            batch_size=what.batch_size, adapters=names, done=bar.update,
        )  # fmt: skip
    voice.figures.update(scored.estimates())
    if isinstance(task, ClassificationTask):
        voice.confusion = task.confusion(scored.statistics, scored.labels)
    if not subject.metrics:
        _given(voice, scored, subject, folder, list(session.voices))
        return
    chat = task.name == "chat"
    if chat:
        tokenizer = with_template(tokenizer, task.options.chat_template)
    asked = questions(subject.rows, subject.groups, task, tokenizer)
    decoding = replace(
        what.decoding, end=what.decoding.end or run.get("end"), whole=chat,
        stop=turn_end(tokenizer) if chat else "",
    )  # fmt: skip
    file = folder and file_of(folder, voice.label, list(session.voices), "answers", ".jsonl")
    answers = Answers([question.prompt for question in asked], file)
    with _bar(f"{voice.label}: answers", len(asked), quiet, len(answers.found)) as bar:
        write_missing(
            session.model, tokenizer, answers, decoding, adapters=names,
            batch_size=what.batch_size, done=bar.update,
        )  # fmt: skip
    voice.answers = [settle(answers.found[place], task) for place in range(len(asked))]
    voice.figures.update(mark(subject.metrics, voice.answers, asked))
    found.asked, found.signatures = asked, signatures(subject.metrics, asked)


def write_missing(
    model: Any, tokenizer: Any, answers: Answers, decoding: Decoding, *,
    adapters: Sequence[str] | None = None, batch_size: int = 16,
    done: Callable[[int], object] | None = None,
) -> None:  # fmt: skip
    """Write the answers that are missing, and keep each batch of them as soon as it is there."""
    places = answers.missing()
    prompts = [answers.prompts[place] for place in places]
    for batch in write(
        model, tokenizer, prompts, decoding, adapters=adapters, batch_size=batch_size
    ):
        answers.add([(places[at], answer) for at, answer in batch])
        if done is not None:
            done(len(batch))


def _given(
    voice: Voice, scored: Scored, subject: Subject, folder: Path | None, voices: Sequence[str]
) -> None:
    """Keep what a classifier or a regressor said of each row."""
    if subject.task not in ("classification", "regression"):
        return
    given, labels = scored.statistics[:, 0].tolist(), scored.labels.tolist()
    if subject.labels is not None:
        given = [subject.labels[int(one)] for one in given]
        labels = [subject.labels[int(one)] for one in labels]
    voice.answers = [str(one) for one in given]
    if folder is None:
        return
    lines = [
        {"row": at, "answer": one, "label": label}
        for at, (one, label) in enumerate(zip(given, labels))
    ]
    file = file_of(folder, voice.label, voices, "answers", ".jsonl")
    told = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    write_whole(file, told.encode())


def _ended(tokenizer: Any, end: str | None) -> Any:
    """The tokenizer with the token that ended texts in the adapter's training."""
    if end is None or end == tokenizer.eos_token:
        return tokenizer
    check_end(tokenizer, end)
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.eos_token = end
    return tokenizer


def _bar(what: str, total: int, quiet: bool, done: int = 0) -> tqdm:
    return tqdm(
        desc=what, total=total, initial=done, unit="row", disable=quiet, dynamic_ncols=True,
        mininterval=0.1 if sys.stderr.isatty() else 10, file=sys.stderr,
    )  # fmt: skip
