"""Task 3: turn one sentence into a small JSON record."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from . import record_patterns as patterns
from .dice import Dice
from .english import MONTHS, WEEKDAYS, capital, in_words, listed, ordinal, plural, with_article

TRAIN_ROWS_EACH = 140
EVAL_ROWS_EACH = 60

# what a sentence says and what the record holds, for every slot a pattern may name
Said = dict[str, str]
Meant = dict[str, object]

RESTAURANTS = (
    ("the Blue Anchor", "Blue Anchor"),
    ("the Olive Tree", "Olive Tree"),
    ("the Copper Kettle", "Copper Kettle"),
    ("the Old Mill", "Old Mill"),
    ("Casa Rosalia", "Casa Rosalia"),
    ("Chez Odette", "Chez Odette"),
    ("Golden Noodle", "Golden Noodle"),
    ("Café Lindqvist", "Café Lindqvist"),
)
ROOMS = listed(
    "tennis court, rehearsal room, rooftop terrace, boathouse, meeting room, dance studio, bowling lane, village hall"
)
ITEMS = listed(
    "garden chair, sack of flour, crate of lemons, desk, box of tiles, bicycle, pallet of bricks, roll of carpet, "
    "washing machine, bunch of tulips, toolbox, oven, armchair, mattress"
)
CITIES = listed("Oslo, Seville, Cardiff, Dresden, Naples, Antwerp, Gdansk, Odense, Toulouse, Zürich, Cork, Tampere")
TASKS = listed(
    "water the plants, call the dentist, renew the passport, pay the rent, take out the recycling, feed the "
    "neighbour's cat, book the train, send the tax form, pick up the dry cleaning, charge the drill, buy a "
    "birthday card, defrost the freezer, return the library books, check the tyres, order more ink, measure the "
    "windows"
)
BILLS = listed(
    "train tickets, printer paper, parking, stamps, cinema tickets, dog food, light bulbs, coffee beans, flowers, "
    "bike repairs, notebooks, lunch, taxi rides, paint, cleaning supplies, firewood"
)
CURRENCIES = (("€", "euros", "EUR", "cents"), ("£", "pounds", "GBP", "pence"), ("$", "dollars", "USD", "cents"))

# unit in the record: (spellings after digits, spelling after number words)
UNITS = {
    "kg": (("kg", "kilos", "kilograms"), "kilos"),
    "g": (("g", "grams"), "grams"),
    "C": (("°C", "degrees", "degrees Celsius"), "degrees"),
    "cm": (("cm", "centimetres"), "centimetres"),
    "m": (("m", "metres"), "metres"),
    "l": (("l", "litres"), "litres"),
}
# what is measured: (subject, unit, lowest, highest)
SUBJECTS = {
    "weight": (
        ("parcel", "kg", 2, 25),
        ("suitcase", "kg", 8, 30),
        ("pumpkin", "kg", 3, 18),
        ("puppy", "kg", 2, 14),
        ("rucksack", "kg", 4, 19),
        ("loaf", "g", 400, 950),
        ("letter", "g", 15, 90),
        ("kitten", "g", 150, 900),
    ),
    "temperature": (
        ("kitchen", "C", 14, 27),
        ("greenhouse", "C", 8, 38),
        ("cellar", "C", 5, 16),
        ("classroom", "C", 15, 29),
        ("swimming pool", "C", 17, 31),
        ("fridge", "C", 2, 9),
    ),
    "length": (
        ("shelf", "cm", 40, 180),
        ("curtain", "cm", 120, 260),
        ("scarf", "cm", 130, 210),
        ("driveway", "m", 6, 40),
        ("fence", "m", 5, 60),
        ("rope", "m", 3, 50),
    ),
    "volume": (
        ("rain barrel", "l", 20, 190),
        ("fuel tank", "l", 5, 60),
        ("watering can", "l", 2, 10),
        ("aquarium", "l", 40, 240),
        ("paint bucket", "l", 2, 15),
    ),
}


def roll_date(dice: Dice) -> tuple[str, str]:
    """A day as a sentence names it, and as the record holds it: 'friday' or '03-14' (month-day)."""
    if dice.chance(0.5):
        weekday = dice.pick(WEEKDAYS)
        return weekday, weekday.lower()
    month, day = dice.number(1, 12), dice.number(1, 28)
    name = MONTHS[month - 1]
    said = dice.pick((f"{day} {name}", f"{name} {day}", f"the {ordinal(day)} of {name}"))
    return said, f"{month:02d}-{day:02d}"


def roll_time(dice: Dice, first_hour: int, last_hour: int) -> tuple[str, str]:
    """A time of day as a sentence names it, and as 'HH:MM'."""
    hour, minute = dice.number(first_hour, last_hour), dice.pick((0, 0, 15, 30, 45))
    exact = f"{hour:02d}:{minute:02d}"
    if (hour, minute) == (12, 0):
        return "noon", exact
    twelve = hour % 12 or 12
    half = "am" if hour < 12 else "pm"
    part = "in the morning" if hour < 12 else "in the afternoon" if hour < 18 else "in the evening"
    if minute == 0:
        spoken = (f"{twelve} {half}", f"{in_words(twelve)} {part}", f"{twelve} o'clock {part}")
    else:
        named = in_words(twelve + 1 if minute == 45 and twelve < 12 else 1 if minute == 45 else twelve)
        fraction = {15: "a quarter past", 30: "half past", 45: "a quarter to"}[minute]
        if (hour, minute) in ((11, 45), (17, 45)):  # the part of the day changes with the hour: stay with the clock
            return exact, exact
        spoken = (f"{twelve}:{minute:02d} {half}", f"{fraction} {named} {part}", f"{twelve}.{minute:02d} {half}")
    return dice.pick((exact, *spoken)), exact


def say_number(dice: Dice, number: int) -> str:
    return in_words(number) if dice.chance(0.4) else str(number)


def days_and_times(dice: Dice, first_hour: int = 7, last_hour: int = 21) -> tuple[Said, Meant]:
    date_said, date = roll_date(dice)
    time_said, time = roll_time(dice, first_hour, last_hour)
    said = {"date": date_said, "on_date": f"on {date_said}", "time": time_said, "at_time": f"at {time_said}"}
    return said, {"date": date, "time": time}


def booking(dice: Dice) -> tuple[Said, Meant]:
    said, meant = days_and_times(dice, 12, 21)
    people = dice.number(2, 14)
    number = say_number(dice, people)
    restaurant, name = dice.pick(RESTAURANTS)
    room = dice.pick(ROOMS)
    said |= {"restaurant": restaurant, "room": f"the {room}", "n": number, "party": f"{number} people"}
    return said, meant | {"restaurant": name, "room": room, "people": people}


def delivery(dice: Dice) -> tuple[Said, Meant]:
    said, meant = days_and_times(dice)
    item, quantity, city = dice.pick(ITEMS), dice.pick((1, dice.number(2, 12), dice.number(2, 40))), dice.pick(CITIES)
    head, of, rest = item.partition(" of ")
    several = f"{plural(head)}{of}{rest}"
    goods = with_article(item) if quantity == 1 else f"{say_number(dice, quantity)} {several}"
    return said | {"goods": goods, "city": city}, meant | {"item": item, "quantity": quantity, "city": city}


def reminder(dice: Dice) -> tuple[Said, Meant]:
    said, meant = days_and_times(dice)
    task = dice.pick(TASKS)
    return said | {"task": task}, meant | {"task": task}


def expense(dice: Dice) -> tuple[Said, Meant]:
    said, meant = days_and_times(dice)
    sign, name, currency, small = dice.pick(CURRENCIES)
    whole, cents = dice.number(3, 95), dice.pick((0, 0, 50, 20, 80, 95, 45))
    if cents == 0:
        money = dice.pick((f"{sign}{whole}", f"{sign}{whole}.00", f"{whole} {name}", f"{in_words(whole)} {name}"))
    else:
        digits, words = f"{whole}.{cents}", f"{in_words(whole)} {name}"
        spoken = (f"{words} {in_words(cents)}", f"{words} and {in_words(cents)} {small}")
        money = dice.pick((f"{sign}{digits}", f"{sign}{digits}", f"{digits} {name}", *spoken))
    item = dice.pick(BILLS)
    amount: float = round(whole + cents / 100, 2) if cents else whole
    return said | {"money": money, "item": item}, meant | {"amount": amount, "currency": currency, "item": item}


def measurement(dice: Dice, kind: str) -> tuple[Said, Meant]:
    said, meant = days_and_times(dice)
    subject, unit, low, high = dice.pick(SUBJECTS[kind])
    whole = dice.number(low, high)
    tenths = dice.number(1, 9) if high <= 60 and dice.chance(0.5) else 0
    after_digits, after_words = UNITS[unit]
    value: float = round(whole + tenths / 10, 1) if tenths else whole
    spelled = dice.pick(after_digits)
    text = f"{value}{spelled}" if spelled == "°C" else f"{value} {spelled}"
    if dice.chance(0.4):
        words = in_words(whole)
        if tenths:
            words += " and a half" if tenths == 5 and dice.chance(0.7) else f" point {in_words(tenths)}"
        text = f"{words} {after_words}"
    meant |= {"subject": subject, "value": value, "unit": unit}
    return said | {"subject": f"the {subject}", "value": text}, meant


def write_record(label: str, pattern: str, meant: Meant) -> dict[str, object]:
    """The record of a sentence; a day or time the pattern does not mention is null."""
    named = {slot.lower() for slot in re.findall(r"{(\w+)}", pattern)}
    date = meant["date"] if named & {"date", "on_date"} else None
    time = meant["time"] if named & {"time", "at_time"} else None
    record: dict[str, object] = {"type": label}
    if label == "booking":
        place = meant["restaurant"] if "restaurant" in named else meant["room"]
        record |= {"place": place, "people": meant["people"], "date": date, "time": time}
    elif label == "delivery":
        record |= {"item": meant["item"], "quantity": meant["quantity"], "city": meant["city"], "date": date}
    elif label == "reminder":
        record |= {"task": meant["task"], "date": date, "time": time}
    elif label == "expense":
        record |= {"amount": meant["amount"], "currency": meant["currency"], "item": meant["item"], "date": date}
    else:
        record |= {"subject": meant["subject"], "value": meant["value"], "unit": meant["unit"], "date": date}
    return record


Roll = Callable[[Dice], tuple[Said, Meant]]


def of_kind(kind: str) -> Roll:
    return lambda dice: measurement(dice, kind)


def tables(split: str) -> dict[str, list[tuple[str, Roll]]]:
    """Every pattern of a split by record type, with the function that rolls its slots."""
    train = split == "train"
    measured = patterns.MEASUREMENT_TRAIN if train else patterns.MEASUREMENT_EVAL
    return {
        "booking": [(text, booking) for text in (patterns.BOOKING_TRAIN if train else patterns.BOOKING_EVAL)],
        "delivery": [(text, delivery) for text in (patterns.DELIVERY_TRAIN if train else patterns.DELIVERY_EVAL)],
        "reminder": [(text, reminder) for text in (patterns.REMINDER_TRAIN if train else patterns.REMINDER_EVAL)],
        "expense": [(text, expense) for text in (patterns.EXPENSE_TRAIN if train else patterns.EXPENSE_EVAL)],
        "measurement": [(text, of_kind(kind)) for kind, texts in measured.items() for text in texts],
    }


def build(dice: Dice, split: str, taken: set[str]) -> list[dict[str, object]]:
    """The rows of one file; `taken` holds the sentences already used and grows with the new ones."""
    rows: list[dict[str, object]] = []
    for label, table in tables(split).items():
        for pattern, roll in dice.rounds(table, TRAIN_ROWS_EACH if split == "train" else EVAL_ROWS_EACH):
            sentence = ""
            while not sentence or sentence in taken:
                said, meant = roll(dice)
                sentence = pattern.format_map(said | {capital(slot): capital(text) for slot, text in said.items()})
            taken.add(sentence)
            record = json.dumps(write_record(label, pattern, meant), ensure_ascii=False)
            rows.append({"prompt": f"Sentence: {sentence}\nRecord:", "completion": f" {record}", "label": label})
    return dice.shuffled(rows)
