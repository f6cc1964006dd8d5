from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lorakit.core.errors import DataError
from lorakit.metrics.e2e_rules import PLACES
from lorakit.metrics.slots import SLOTS, parse, slot_accuracy, slot_rows

FULL = (
    "name[Aromi], eatType[coffee shop], food[French], customer rating[5 out of 5], "
    "area[riverside], familyFriendly[yes], near[Crowne Plaza Hotel]"
)


def row(meaning, text):
    return slot_rows([meaning], [text])[0]


def test_a_meaning_is_parsed():
    assert parse(FULL) == {
        "name": "Aromi", "eatType": "coffee shop", "food": "French",
        "customer rating": "5 out of 5", "area": "riverside", "familyFriendly": "yes",
        "near": "Crowne Plaza Hotel",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("meaning", "match"),
    [
        ("name[Aromi], aera[riverside]", "'aera', which E2E does not. Did you mean 'area'"),
        ("name[Aromi] riverside", "not of the form"),
        ("", "not of the form"),
        ("name[Aromi], name[Cotto]", "twice"),
    ],
)
def test_what_is_no_meaning(meaning, match):
    with pytest.raises(DataError, match=match):
        slot_rows([meaning], ["text"])


def test_rows_that_do_not_match():
    for meanings, texts in (([FULL], []), ([], []), (FULL, "text")):
        with pytest.raises(DataError):
            slot_accuracy(meanings, texts)


def test_a_score_by_hand():
    texts = [
        # All seven.
        "Aromi is a kid-friendly French coffee shop by the river near Crowne Plaza Hotel. It has "
        "five stars.",
        # Of seven: name, eatType; not for families and a pub are other values, Indian is added.
        "The Aromi coffee shop is a pub, serves Indian food and is not family friendly.",
    ]
    first, second = slot_rows([FULL, FULL], texts)
    assert first.missing == first.added == ()
    assert second.found == ("name", "eatType")
    assert sorted(second.added) == [
        ("eatType", "pub"), ("familyFriendly", "no"), ("food", "Indian"),
    ]  # fmt: skip
    score = slot_accuracy([FULL, FULL], texts)
    assert (score.slots, score.rows, score.added) == (9 / 14, 1 / 2, 1 / 2)
    assert score.by_slot["name"] == 1
    assert score.by_slot["food"] == 1 / 2
    assert json.loads(json.dumps(score.as_dict()))["slots"] == score.slots
    sums = [sum(column) for column in zip(first.statistics, second.statistics)]
    assert sums == [9, 14, 1, 1]


@pytest.mark.parametrize(
    ("slot", "value", "text"),
    [
        ("name", "The Punter", "Punter's is near the river."),
        ("near", "Café Rouge", "close to the Cafe Rouge"),
        ("eatType", "pub", "It is a riverside pub."),
        ("eatType", "coffee shop", "A coffee-shop"),
        ("eatType", "restaurant", "a nice eatery"),
        ("food", "Fast food", "fast-food"),
        ("food", "English", "British dishes"),
        ("food", "Japanese", "a sushi bar"),
        ("priceRange", "cheap", "low-priced food"),
        ("priceRange", "cheap", "its prices are very low"),
        ("priceRange", "less than £20", "for under £20"),
        ("priceRange", "less than £20", "less than twenty pounds"),
        ("priceRange", "less than £20", "at below average prices"),
        ("priceRange", "moderate", "in the mid price range"),
        ("priceRange", "moderate", "reasonably priced"),
        ("priceRange", "£20-25", "costs £20-£25"),
        ("priceRange", "£20-25", "between 20 and 25 pounds"),
        ("priceRange", "high", "an expensive place"),
        ("priceRange", "high", "The price range is high."),
        ("priceRange", "more than £30", "over £30 a head"),
        ("priceRange", "more than £30", "an average price of more than £30"),
        ("customer rating", "5 out of 5", "5-star"),
        ("customer rating", "5 out of 5", "rated five out of five"),
        ("customer rating", "5 out of 5", "highly rated"),
        ("customer rating", "high", "excellent customer reviews"),
        ("customer rating", "average", "averagely rated"),
        ("customer rating", "3 out of 5", "a rating of 3"),
        ("customer rating", "3 out of 5", "3 out 5 stars"),
        ("customer rating", "low", "its customer rating is low"),
        ("customer rating", "low", "poorly rated"),
        ("customer rating", "1 out of 5", "one out of five stars"),
        ("area", "city centre", "in the center of the city"),
        ("area", "riverside", "on the river"),
        ("familyFriendly", "yes", "Children are welcome."),
        ("familyFriendly", "yes", "Bring the family!"),
        ("familyFriendly", "yes", "It is not far from the river and kid friendly."),
        ("familyFriendly", "no", "non family-friendly"),
        ("familyFriendly", "no", "It isn't suitable for families with children."),
        ("familyFriendly", "no", "does not welcome kids"),
        ("familyFriendly", "no", "children are not allowed"),
        ("familyFriendly", "no", "adults only"),
        ("familyFriendly", "no", "an adult oriented pub"),
        ("familyFriendly", "yes", "great for children and adults"),
        ("customer rating", "low", "It has not got a good rating."),
    ],
)
def test_ways_to_say_it(slot, value, text):
    found = row(f"{slot}[{value}]", text)
    assert found.found == (slot,)
    others = [(name, what) for name, what in found.added if name == slot]
    assert not others


@pytest.mark.parametrize(
    ("slot", "value", "text"),
    [
        ("name", "The Mill", "a windmill"),
        ("food", "Indian", "near Raja Indian Cuisine"),
        ("food", "French", "burgers and french fries"),
        ("eatType", "coffee shop", "near Café Brazil"),
        ("priceRange", "high", "highly rated"),
        ("priceRange", "high", "inexpensive"),
        ("priceRange", "moderate", "an average customer rating"),
        ("customer rating", "high", "in the high price range"),
        ("customer rating", "average", "average prices"),
        ("customer rating", "5 out of 5", "1 out of 5 stars"),
        ("customer rating", "1 out of 5", "4 out of 5"),
        ("familyFriendly", "yes", "It is not kid-friendly."),
        ("familyFriendly", "no", "A kid friendly pub, no reservations."),
        ("area", "riverside", "in the city centre"),
    ],
)
def test_what_does_not_say_it(slot, value, text):
    assert row(f"{slot}[{value}]", text).missing == (slot,)


def test_what_is_added():
    meaning = "name[Aromi], area[riverside]"
    assert row(meaning, "Aromi by the river is a cheap place.").added == (
        ("priceRange", "cheap|less than £20"),
    )
    assert row(meaning, "Aromi, in the city centre").added == (("area", "city centre"),)
    assert row(meaning, "Aromi at the riverside near Burger King").added == (
        ("place", "Burger King"),
    )
    # Any place is called a restaurant, and may be said to be north of the centre.
    assert not row(meaning, "Aromi is a riverside restaurant north of the city centre.").added


SENTENCES = {
    "name": "There is a place called {}.",
    "near": "It is near {}.",
    "eatType": "It is a {}.",
    "food": "It serves {} food.",
    "priceRange": "The price range is {}.",
    "customer rating": "The customer rating is {}.",
    "area": "It is in the {} area.",
}
VALUES = {
    "name": st.sampled_from(PLACES),
    "near": st.sampled_from(PLACES),
    "eatType": st.sampled_from(["pub", "restaurant", "coffee shop"]),
    "food": st.sampled_from(["Chinese", "English", "Fast food", "French", "Indian", "Italian"]),
    "priceRange": st.sampled_from(
        ["cheap", "moderate", "high", "less than £20", "£20-25", "more than £30"]
    ),
    "customer rating": st.sampled_from(
        ["low", "average", "high", "1 out of 5", "3 out of 5", "5 out of 5"]
    ),
    "area": st.sampled_from(["riverside", "city centre"]),
    "familyFriendly": st.sampled_from(["yes", "no"]),
}


@settings(max_examples=80, deadline=None)
@given(st.fixed_dictionaries({}, optional=VALUES).filter(bool), st.randoms())
def test_a_text_made_of_the_meaning_says_it_all(values, rng):
    meaning = ", ".join(f"{slot}[{value}]" for slot, value in values.items())
    sentences = [
        ("It is family friendly." if value == "yes" else "It is not family friendly.")
        if slot == "familyFriendly"
        else SENTENCES[slot].format(value)
        for slot, value in values.items()
    ]
    rng.shuffle(sentences)
    found = row(meaning, " ".join(sentences))
    assert found.missing == found.added == ()
    assert row(meaning, "").missing == tuple(slot for slot in SLOTS if slot in values)


@pytest.mark.real
def test_people_say_most_of_what_they_are_told(real):
    """What rules leave of the human references: nearly all of it was truly left out or changed."""
    text = (real / "datasets" / "e2e" / "resplit_test.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    score = slot_accuracy([row["mr"] for row in rows], [row["ref"] for row in rows])
    assert score.slots == pytest.approx(0.936, abs=0.003)
    assert score.added == pytest.approx(0.046, abs=0.005)
    assert score.by_slot["name"] == 1
