"""Small English helpers: a/an, plurals, number words, capital letters, dates."""

from __future__ import annotations

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)

_IRREGULAR = {"child": "children", "person": "people", "shelf": "shelves", "loaf": "loaves", "half": "halves"}


def listed(text: str) -> list[str]:
    """The items of a comma-separated list: 'red, dark blue' -> ['red', 'dark blue']."""
    return [item.strip() for item in text.split(",")]


_ONES = listed(
    "zero, one, two, three, four, five, six, seven, eight, nine, ten, eleven, twelve, thirteen, fourteen, fifteen, "
    "sixteen, seventeen, eighteen, nineteen"
)
_TENS = listed("-, -, twenty, thirty, forty, fifty, sixty, seventy, eighty, ninety")


def capital(text: str) -> str:
    """The text with its first character in upper case and the rest untouched."""
    return text[:1].upper() + text[1:]


def with_article(noun: str) -> str:
    """'kettle' -> 'a kettle', 'alarm clock' -> 'an alarm clock' (the nouns used here follow their first letter)."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(noun: str) -> str:
    head, _, last = noun.rpartition(" ")
    if last in _IRREGULAR:
        last = _IRREGULAR[last]
    elif last.endswith(("s", "x", "ch", "sh")):
        last += "es"
    elif last.endswith("y") and last[-2] not in "aeiou":
        last = last[:-1] + "ies"
    elif last in ("potato", "tomato"):
        last += "es"
    else:
        last += "s"
    return f"{head} {last}".strip()


def count(number: int, noun: str) -> str:
    """'1 box', '3 boxes'."""
    return f"{number} {noun if number == 1 else plural(noun)}"


def in_words(number: int) -> str:
    """0 to 999 in words: 23 -> 'twenty-three', 150 -> 'one hundred and fifty'."""
    if not 0 <= number < 1000:
        raise ValueError(f"no words for {number}")
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens] + (f"-{_ONES[ones]}" if ones else "")
    hundreds, rest = divmod(number, 100)
    return f"{_ONES[hundreds]} hundred" + (f" and {in_words(rest)}" if rest else "")


def ordinal(number: int) -> str:
    """1 -> '1st', 12 -> '12th', 23 -> '23rd'."""
    ending = "th" if 10 < number % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"
