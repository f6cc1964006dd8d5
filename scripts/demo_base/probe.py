"""How much of the demo's task the bare base can do when it is asked in ways that it knows.

    python scripts/demo_base/probe.py [base-folder]

A low score of the demo's own prompt would say little if another way of asking gave a high one. So
the same held-out attributes are also given with a cue, begun as a description, and in the layouts
that people use. The cues to repeat are those of its pretraining text, in which lists return word
for word: there the base copies attributes as it was taught to, and makes no description of them.
"""

from __future__ import annotations

import sys

from lorakit.demo import base_folder
from lorakit.demo.rows import Row, rows, slot_accuracy
from lorakit.eval.generate import generate
from lorakit.eval.session import open_session


def card(row: Row, mark: str, cue: str) -> str:
    """The attributes of a row in lines, and a cue."""
    lines = [f"{key.capitalize()}{mark}{value}" for key, value in row["attributes"].items()]
    return "\n".join([*lines, cue, ""])


def main() -> None:
    """Print one line for each way of asking."""
    folder = sys.argv[1] if len(sys.argv) > 1 else str(base_folder())
    session = open_session([], model=folder, device="cpu")
    held = rows(100, seed=1, held_out=True)
    asked = {
        "the demo's line": [row["prompt"] for row in held],
        "the demo's line, and a cue": [row["prompt"] + "Told in full.\n" for row in held],
        "the description begun": [
            row["prompt"] + row["attributes"]["name"] + " is a" for row in held
        ],
        "a card with colons": [card(row, ": ", "Told in full.") for row in held],
        "a card with equals signs": [card(row, " = ", "Told in full.") for row in held],
        "a card with dashes": [card(row, " - ", "In words.") for row in held],
        "cue to repeat the line": [row["prompt"] + "Once more.\n" for row in held],
        "cue to repeat the values": [
            "\n".join([*row["attributes"].values(), "And now again.", ""]) for row in held
        ],
    }
    for what, prompts in asked.items():
        texts = generate(
            session.model, session.tokenizer, prompts, max_new_tokens=110, batch_size=50
        )
        slots, whole = slot_accuracy(held, texts)
        print(f"{what:<28}{slots:>7.1%} of the attributes{whole:>6.0%} of the rows")


if __name__ == "__main__":
    main()
