"""How texts of the E2E data state the values of closed slots: rules written from its rows.

They work on `plain` text. A rule is a pattern, the values of the slot that it may mean (people call
the same place "cheap", "low priced" and "under £20", and "3 out of 5" is an average rating), and
whether it is firm: a soft one ("coffee" for a coffee shop, "sushi" for Japanese food) realises a
value, but is no evidence against another one.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

PLACES = (
    "Alimentum", "All Bar One", "Aromi", "Avalon", "Bibimbap House", "Blue Spice",
    "Browns Cambridge", "Burger King", "Café Brazil", "Café Rouge", "Café Sicilia", "Clare Hall",
    "Clowns", "Cocum", "Cotto", "Crowne Plaza Hotel", "Express by Holiday Inn", "Fitzbillies",
    "Giraffe", "Green Man", "Loch Fyne", "Midsummer House", "Rainbow Vegetarian Café",
    "Raja Indian Cuisine", "Ranch", "Strada", "Taste of Cambridge", "The Bakers",
    "The Cambridge Blue", "The Cricketers", "The Eagle", "The Golden Palace", "The Mill",
    "The Phoenix", "The Plough", "The Portland Arms", "The Punter", "The Rice Boat",
    "The Sorrento", "The Vaults", "The Waterman", "The Wrestlers", "Travellers Rest Beefeater",
    "Wildwood", "Zizzi",
)  # fmt: skip

_NUMBERS = {
    "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "twenty": "20",
    "thirty": "30",
}  # fmt: skip


@dataclass(frozen=True)
class Rule:
    """A pattern of plain text, the values that it may mean, and whether it rules others out."""

    pattern: re.Pattern[str]
    values: frozenset[str]
    firm: bool = True


def plain(text: str) -> str:
    """Lower case without accents and hyphens, numbers as digits, full stops and commas apart."""
    text = unicodedata.normalize("NFKD", text.lower())
    text = "".join(mark for mark in text if not unicodedata.combining(mark))
    text = re.sub(r"[\u2018\u2019`]", "'", text)
    text = re.sub(r"[-\u2010-\u2015/_]", " ", text)
    text = re.sub(r"[.;:!?]+", " . ", text).replace(",", " , ")
    words = (_NUMBERS.get(word, word) for word in text.split())
    return re.sub(r"\b20 5\b", "25", " ".join(words))


def _rule(values: str, *patterns: str, firm: bool = True) -> Rule:
    names = frozenset(values.split("|"))
    return Rule(re.compile(rf"\b(?:{'|'.join(patterns)})"), names, firm)


_CHEAP, _MODERATE, _DEAR = "cheap|less than £20", "moderate|£20-25", "high|more than £30"
_PRICE = r"(?:pric\w*|cost(?:s|ing|ly)?)\b"
# What stands between "prices" and their height: "price range is in the very".
_IS = (
    r"(?: (?:range|ranges|ranged|bracket|tag|point|is|are|was|can|be|being|at|in|on|of|a|an|the"
    r"|side|customer|customers|by|its|as|very|quite|rather|fairly|pretty|relatively|extremely"
    r"|really|also|it|has|been|from|here|overall|level|somewhat|rated|just|for|this"
    r"|coffee|shop|restaurant|pub|place))*"
)
_POUNDS = r"(?:£|gbp|eur|euros?|e|l|\$)? ?"
# "An average price of more than £30" is no average price.
_IS_AMOUNT = rf"(?: (?:is|of|at|around|about|more|less|than|over|under))* {_POUNDS}\d"
_LEVELS = {
    _CHEAP: r"(?:low|lower|lowest|cheap|inexpensive|affordable|(?:below|less than|under) average)",
    _MODERATE: (
        r"(?:moderate|moderately|medium|mid|middle|intermediate|intermediately"
        r"|(?<!than )(?<!above )(?<!below )(?<!under )averaged?)"
    ),
    _DEAR: (
        r"(?:high|highly|higher|upper|expensive|steep|premium|above (?:the )?average"
        r"|(?:higher|more) than average)"
    ),
}

PRICE = (
    _rule(_CHEAP, r"(?<!not )(?<!not the )(?:cheap(?:ly|er|est)?\b|inexpensive|affordab)"),
    _rule(_CHEAP, r"budget", r"low end\b", r"(?:good|great|excellent) value", firm=False),
    _rule(
        _CHEAP,
        rf"(?:less|lower|cheaper|fewer|not more|no more) (?:(?:than|that|then) )?{_POUNDS}20\b",
        rf"(?:under|below|beneath|up to|within|at most|sub) {_POUNDS}20\b",
    ),
    _rule(
        _MODERATE,
        r"(?:moderate(?:ly)?|modest(?:ly)?)\b(?! (?:customer |consumer )?(?:rat|review|rank))",
    ),
    _rule(
        _MODERATE,
        rf"(?:between |from |of |around |about )?{_POUNDS}20 ?(?:to|and|or|through)? ?{_POUNDS}25",
    ),
    _rule(_DEAR, r"(?<!not )(?<!not too )(?<!not very )expensive", r"pric(?:e?y|ier)\b"),
    _rule(_DEAR, r"up ?scale", r"up ?market", r"high(?:er)? end\b", r"exclusive\b", firm=False),
    _rule(_DEAR, r"costs? (?:more|a lot)", r"not (?:the )?cheap", firm=False),
    _rule(
        _DEAR,
        rf"(?:more|greater|higher|no less|not less) (?:than|that|then) {_POUNDS}30\b",
        rf"(?:over|above|beyond|upwards? of|at least|exceed\w*|starting at|from) {_POUNDS}30\b",
        rf"{_POUNDS}30 ?(?:\+|plus|and up|or more|and over|and above|upwards?|(?:price )?minimum)",
    ),
    # "Reasonable" is what people call anything that is not dear.
    _rule(
        f"{_CHEAP}|{_MODERATE}",
        r"(?:reasonabl[ey]|fair(?:ly)?|decent(?:ly)?|okay|ok|well|good|great|nice) "
        rf"(?:{_PRICE}|range)",
        rf"{_PRICE}{_IS} (?:reasonabl[ey]|fair|decent|okay|ok|good)\b",
        r"reasonabl[ey]",
    ),
    *(
        _rule(
            values,
            rf"{level} (?:(?:level|range|ranged|ranging|end|class|in|of|on|the|a|food|menu) )*"
            rf"{_PRICE}(?!(?: range| price| for a meal)*{_IS_AMOUNT})",
            rf"{_PRICE}{_IS} {level}\b(?! (?:customer|rat|review|rank))(?!{_IS_AMOUNT})",
        )
        for values, level in _LEVELS.items()
    ),
)

_LOW, _AVERAGE, _HIGH = "low|1 out of 5", "average|3 out of 5", "high|5 out of 5"
_RATING = r"(?:rat(?:ed|ing|ings|e|es)|review\w*|rank\w*|scor\w*|feedback|recommend\w*|approv\w*)"
_WHOSE = (
    r"(?: (?:customers?|customer's|consumers?|users?|guests?|costumers?|overall|public|quality"
    r"|service|satisfaction|food|approval|star))*"
)
_GRADES = {
    _LOW: (
        r"(?:not (?:have |got )?(?:a )?(?:very )?(?:good|highly)|low|lowest|lower|lowly|poor|poorly"
        r"|bad|badly|negative|terrible|(?:below|lower than) average)"
    ),
    _AVERAGE: (
        r"(?:(?<!than )average|averagely|averaged|mediocre|ok|okay|reasonable|moderate|moderately"
        r"|mid|mid range|medium|normal|fair|fairly|middling|so so)"
    ),
    f"{_AVERAGE}|{_HIGH}": r"(?:good|decent)",
    _HIGH: (
        r"(?:high|highly|higher|highest|great|excellent|top|best|outstanding|superb|well"
        r"|amazing|fantastic|wonderful|positive|positively|exceptional|favou?rabl[ey])"
    ),
}
_OUT_OF = r"(?: ?(?:out|ou|our|put) ?of| ?of| out)(?: a)?(?: possible| scale of)? ?5"

RATING = (
    *(
        _rule(
            values,
            rf"{digit}{_OUT_OF}",
            rf"(?<!of )(?<!out ){digit} star(?:s|red|ts)?\b",
            rf"{_RATING}(?: (?:is|of|are|as|a|an|at|by|customers?|with|it|only))* "
            rf"{digit}\b(?! (?:to|and|or) \d)",
        )
        for values, digit in (
            (_LOW, "1"),
            (_AVERAGE, "3"),
            (_HIGH, "5"),
            ("2 out of 5|4 out of 5", "[24]"),
        )
    ),
    *(
        _rule(
            values,
            rf"(?<!not )(?<!not a )(?<!not have a )(?<!not got a ){grade}{_WHOSE}(?: in)? {_RATING}"
            r"(?!(?: (?:is|of|being|a|only|at))* [1-5]\b)",
            rf"{grade}{_WHOSE} satisfaction",
            rf"(?:{_RATING}|satisfaction){_IS} {grade}\b(?! (?:pric|cost))",
        )
        for values, grade in _GRADES.items()
    ),
    _rule(_HIGH, r"well (?:liked|regarded|respected|loved)", r"popular", firm=False),
    _rule(_AVERAGE, r"average\b(?! (?:pric|cost))", firm=False),
)

_CHILDREN = r"(?:famil(?:y|ies|ys|iar)|kids?|kid's|child|children|childrens|children's)\b"
# What may stand between "not" and the children it concerns.
_FILLER = (
    r"(?: (?:a|an|the|very|really|considered|considerably|particularly|especially|necessarily|most"
    r"|best|suitable|suited|recommended|appropriate|good|great|ideal|for|to|allow|allowed|allows"
    r"|welcome|welcomed|welcoming|permit|permitted|serve|cater|caters|catering|place|places|spot"
    r"|take|bring|bringing|your|any|like|at|all|so|is|be|been|being|intended|meant|aimed|geared"
    r"|targeted|it|as|with|of|entirely|overly|exactly|accommodate|accommodating|admit|small|young"
    r"|friendly|have|has|want|accept|encourage|encouraged|designed|made|open|whole|too|in|coffee"
    r"|shop|restaurant|pub|establishment|environment|venue|kind|type|on|having|provide|offer|however"
    r"|noisy|facilities|amenities|conducive|openly|recommend|visit|orientated|appeal|child|room|known|actively|location|oriented|towards?))*"
)
_NOT = r"(?:non?e?|not|\w+n't|isnt|arent|doesnt|dont|wont|cannot|never|without|nor|un)"
_SUITS = r"(?:friendly|welcome\w*|allow\w*|permit\w*|recommend\w*|accept\w*|suitable|admit\w*)"

# Tried before FAMILY; what it matched is then taken out of the text.
NOT_FAMILY = _rule(
    "no",
    rf"{_NOT}{_FILLER} {_CHILDREN}(?: (?:with|and|or|{_SUITS}|{_CHILDREN}))*",
    rf"{_CHILDREN}(?: (?:is|are|and|or|families|children|kids|friendly|should|will|must))* "
    rf"(?:not|\w+n't|never)(?: (?:be|very|really|come|visit))* (?:{_SUITS}|\.|$)",
    rf"{_CHILDREN} friendly no\b",
    rf"{_CHILDREN}(?: (?:is|are))? (?:un\w*friendly|free|prohibited|forbidden|banned)",
    rf"(?:unsuitable|inappropriate|unfriendly|prohibits?|bans?|excludes?|forbids?|discourages?"
    rf"|refuses?|leave|less|lacks?|isolated from|away from){_FILLER} {_CHILDREN}",
    r"(?<!and )(?:adults?|grown ?ups?)\b(?! (?:as well|and|or)\b)",
    r"childless",
    r"mature\b",
    r"over 18",
)
FAMILY = _rule("yes", _CHILDREN, r"all ages?\b", r"all age groups")

RULES: dict[str, tuple[Rule, ...]] = {
    "eatType": (
        _rule("coffee shop", r"coffee (?:shop|house)s?\b"),
        _rule("coffee shop", r"coffee\w*", r"cafes?\b", firm=False),
        _rule("pub", r"pubs?\b"),
        # "Restaurant" is also the word for any of the three.
        _rule("restaurant", r"rest[aeu]?u?ra\w*", r"eatery", r"diner\b", r"bistro", firm=False),
    ),
    "food": (
        _rule("Chinese", r"chin+ese?\b"),
        _rule("English", r"english", r"british(?! pound)"),
        _rule("Fast food", r"fast ?foods?"),
        _rule("Fast food", r"burgers?\b", firm=False),
        _rule("French", r"french(?! frie)"),
        _rule("Indian", r"indiana?\b"),
        _rule("Indian", r"curr(?:y|ies)\b", firm=False),
        _rule("Italian", r"italian"),
        _rule("Italian", r"pasta", r"pizza", r"spaghetti", firm=False),
        _rule("Japanese", r"japanese"),
        _rule("Japanese", r"sushi", firm=False),
    ),
    "priceRange": PRICE,
    "customer rating": RATING,
    "area": (
        _rule(
            "riverside", r"river ?side", r"(?:by|on|along|beside|at|alongside) (?:the |a )?river\b"
        ),
        _rule("riverside", r"river ?(?:s|bank|front|area)?\b", r"water ?front", firm=False),
        # "North of the city centre" is not in it, but people write it of places that are.
        _rule(
            "city centre",
            r"(?:in|at|within|inside) (?:the )?(?:city|town)(?:'s)? ?cent(?:er|re)\w*",
            r"in (?:the )?cent(?:er|re) of (?:the )?(?:city|town|cambridge)",
        ),
        _rule(
            "city centre",
            r"(?:city|town)(?:'s)? ?cent(?:er|re)\w*",
            r"down ?town",
            r"central\w*",
            r"(?:heart|middle) of (?:the )?(?:city|town)",
            r"in (?:the )?city\b",
            r"cent(?:er|re)\b",
            firm=False,
        ),
    ),
}  # fmt: skip
