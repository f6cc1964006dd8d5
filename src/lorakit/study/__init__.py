"""Studies: questions that are answered by many measurements, with statistics and a report."""

from __future__ import annotations

from lorakit.study.kinds import Study
from lorakit.study.latency import Latency
from lorakit.study.memory import Memory
from lorakit.study.methods import Methods
from lorakit.study.subspace import Subspace

STUDIES: dict[str, Study] = {own.name: own for own in (Methods(), Latency(), Memory(), Subspace())}
