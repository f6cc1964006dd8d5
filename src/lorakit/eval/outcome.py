"""What an evaluation came to: each voice's figures, and what they are figures of."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from lorakit.eval.interval import Estimate
from lorakit.eval.questions import Question
from lorakit.eval.subject import Subject
from lorakit.formats.manifest import versions
from lorakit.metrics.classification import Confusion


@dataclass
class Voice:
    """What one voice, the base or an adapter, came to; answers stand in the order of the rows."""

    label: str
    folder: str | None
    figures: dict[str, Estimate] = field(default_factory=dict)
    confusion: Confusion | None = None
    answers: list[str] = field(default_factory=list)


@dataclass
class Evaluation:
    """All of an evaluation. `asked` are the questions, where answers were written."""

    model: str
    identity: dict[str, Any]
    subject: Subject
    voices: list[Voice]
    signatures: dict[str, str] = field(default_factory=dict)
    asked: list[Question] = field(default_factory=list)

    def told(self) -> dict[str, Any]:
        """The evaluation as JSON."""
        return {
            "model": self.model,
            **self.identity,
            "notes": self.subject.notes,
            "signatures": self.signatures,
            "versions": versions(),
            "voices": {
                voice.label: {
                    "adapter": voice.folder,
                    "metrics": {name: asdict(one) for name, one in voice.figures.items()},
                    "confusion": voice.confusion.as_dict() if voice.confusion else None,
                }
                for voice in self.voices
            },
        }
