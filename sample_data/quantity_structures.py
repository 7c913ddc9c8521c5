"""The problem structures of task 2: each is a function that rolls one problem with whole, positive numbers.

A function returns (question, worked steps, result). `SHARED` structures appear in train and eval, `EVAL_ONLY`
structures in eval alone. Every calculation in the steps comes out of `calc`, so none is typed by hand.
"""

from __future__ import annotations

from collections.abc import Callable

from .dice import Dice
from .english import capital, count, listed, plural

Problem = tuple[str, str, int]
Structure = Callable[[Dice], Problem]

SHARED: list[Structure] = []
EVAL_ONLY: list[Structure] = []

WOMEN = listed("Ada, Bea, Carla, Dina, Edda, Fatima, Greta, Hana, Ines, Julia, Kim, Nora")
MEN = listed("Adam, Ben, Carlos, David, Emil, Farid, Georg, Hugo, Igor, Jan, Karim, Noah")
PEOPLE = tuple((name, "she") for name in WOMEN) + tuple((name, "he") for name in MEN)
NAMES = tuple(name for name, _ in PEOPLE)
KEEPSAKES = listed("marble, sticker, stamp, postcard, coin, shell, badge, trading card, button, bead")
PACKED = (
    ("box", "egg", "cracked"),
    ("bag", "apple", "rotten"),
    ("packet", "biscuit", "broken"),
    ("crate", "bottle", "broken"),
    ("tray", "seedling", "dry"),
)
GOODS = listed("notebook, mug, candle, scarf pin, plant pot, poster, tea towel, puzzle, brush, paint tube")
TOWNS = listed("Oakham, Riverton, Ashby, Millbrook, Eastfield, Harwick, Stonebridge, Lindale")


def calc(left: int, operator: str, right: int) -> tuple[str, int]:
    """The text 'a op b = c' and c; refuses fractions and negative results."""
    if operator == "/" and left % right:
        raise ValueError(f"{left} / {right} is not whole")
    value = {"+": left + right, "-": left - right, "*": left * right, "/": left // right}[operator]
    if value < 0:
        raise ValueError(f"{left} {operator} {right} is negative")
    return f"{left} {operator} {right} = {value}", value


def shared(structure: Structure) -> Structure:
    SHARED.append(structure)
    return structure


def eval_only(structure: Structure) -> Structure:
    EVAL_ONLY.append(structure)
    return structure


@shared
def packed_minus_spoiled(dice: Dice) -> Problem:
    name, (box, egg, bad) = dice.pick(NAMES), dice.pick(PACKED)
    boxes, each, spoiled = dice.number(3, 9), dice.number(6, 15), dice.number(2, 11)
    step1, total = calc(boxes, "*", each)
    step2, rest = calc(total, "-", spoiled)
    question = dice.pick(
        (
            f"{name} buys {count(boxes, box)} with {count(each, egg)} in each. {spoiled} of the {plural(egg)} are "
            f"{bad}. How many good {plural(egg)} are left?",
            f"There are {count(each, egg)} in every {box}. {name} opens {count(boxes, box)} and gives away "
            f"{count(spoiled, egg)}. How many {plural(egg)} remain?",
        )
    )
    return question, f"{count(boxes, box)} hold {step1} {plural(egg)}. {step2}.", rest


@shared
def equal_shares(dice: Dice) -> Problem:
    item, children, each = dice.pick(KEEPSAKES), dice.number(3, 9), dice.number(4, 15)
    step, _ = calc(children * each, "/", children)
    question = dice.pick(
        (
            f"{count(children * each, item)} are shared equally among {children} children. How many "
            f"{plural(item)} does each child get?",
            f"{dice.pick(NAMES)} puts {count(children * each, item)} into {children} equal piles. How many "
            f"{plural(item)} are in one pile?",
        )
    )
    return question, f"{step}.", each


@shared
def bus_stops(dice: Dice) -> Problem:
    start, off, on = dice.number(15, 48), dice.number(3, 12), dice.number(2, 14)
    step1, after = calc(start, "-", off)
    step2, end = calc(after, "+", on)
    vehicle, stop = dice.pick((("bus", "stop"), ("tram", "stop"), ("train", "station"), ("ferry", "pier")))
    question = (
        f"A {vehicle} leaves {dice.pick(TOWNS)} with {start} people on board. At the next {stop} {off} get off and "
        f"{on} get on. How many people are on the {vehicle} now?"
    )
    return question, f"After {off} people leave, {step1} are on board. {step2}.", end


@shared
def change_from_a_note(dice: Dice) -> Problem:
    name, pronoun = dice.pick(PEOPLE)
    item, number, price = dice.pick(GOODS), dice.number(2, 6), dice.number(2, 8)
    note = min(note for note in (10, 20, 50) if note > number * price)
    step1, cost = calc(number, "*", price)
    step2, change = calc(note, "-", cost)
    question = dice.pick(
        (
            f"{name} buys {count(number, item)} at {price} pounds each and pays with a {note} pound note. How many "
            "pounds of change are there?",
            f"One {item} costs {price} pounds. {name} takes {number} of them and hands over {note} pounds. How much "
            f"does {pronoun} get back?",
        )
    )
    return question, f"{count(number, item)} cost {step1} pounds. {step2}.", change


@shared
def saving_up(dice: Dice) -> Problem:
    name, pronoun = dice.pick(PEOPLE)
    start, weekly, weeks = dice.number(8, 60), dice.number(3, 12), dice.number(3, 10)
    step1, saved = calc(weekly, "*", weeks)
    step2, total = calc(start, "+", saved)
    question = dice.pick(
        (
            f"{name} has {start} euros and saves {weekly} euros every week. How many euros will {pronoun} have after "
            f"{weeks} weeks?",
            f"There are {start} euros in a jar. Each week for {weeks} weeks {name} adds {weekly} more. How many euros "
            "are in the jar then?",
        )
    )
    return question, f"In {weeks} weeks {name} saves {step1} euros. {step2}.", total


@shared
def pages_left(dice: Dice) -> Problem:
    name, pronoun = dice.pick(PEOPLE)
    daily, days, left = dice.number(8, 30), dice.number(3, 9), dice.number(10, 120)
    step1, read = calc(daily, "*", days)
    step2, rest = calc(read + left, "-", read)
    question = dice.pick(
        (
            f"A book has {read + left} pages. {name} reads {daily} pages a day for {days} days. How many pages are "
            "left?",
            f"{name} is reading a book of {read + left} pages. If {pronoun} manages {daily} pages every day, how many "
            f"pages are still unread after {days} days?",
        )
    )
    return question, f"In {days} days {name} reads {step1} pages. {step2}.", rest


@shared
def days_to_finish(dice: Dice) -> Problem:
    name, pronoun = dice.pick(PEOPLE)
    daily, days, done = dice.number(5, 20), dice.number(3, 12), dice.number(6, 60)
    job, unit = dice.pick((("fence", "board"), ("floor", "tile"), ("blanket", "row"), ("hedge", "metre")))
    verb = {"fence": "paint", "floor": "lay", "blanket": "knit", "hedge": "trim"}[job]
    step1, rest = calc(daily * days + done, "-", done)
    step2, _ = calc(rest, "/", daily)
    question = (
        f"{name} has to {verb} {daily * days + done} {plural(unit)} of a {job} and has done {done} so far. At "
        f"{daily} {plural(unit)} a day, how many more days does {pronoun} need?"
    )
    return question, f"{step1} {plural(unit)} are left to {verb}. {step2}.", days


@shared
def more_than_together(dice: Dice) -> Problem:
    first, second = dice.pick_two(NAMES)
    item, has, more = dice.pick(KEEPSAKES), dice.number(9, 50), dice.number(3, 25)
    step1, other = calc(has, "+", more)
    step2, both = calc(has, "+", other)
    question = dice.pick(
        (
            f"{first} has {count(has, item)}. {second} has {more} more than {first}. How many {plural(item)} do they "
            "have together?",
            f"{second} owns {more} {plural(item)} more than {first}, who owns {has}. How many {plural(item)} is that "
            "in all?",
        )
    )
    return question, f"{second} has {step1} {plural(item)}. Together they have {step2}.", both


@shared
def times_as_many_difference(dice: Dice) -> Problem:
    first, second = dice.pick_two(NAMES)
    times, word = dice.pick(((2, "twice"), (3, "three times"), (4, "four times"), (5, "five times")))
    has = dice.number(5, 30)
    verb, past, item = dice.pick(
        (("pick", "picked", "plum"), ("collect", "collected", "shell"), ("sell", "sold", "ticket"))
    )
    step1, other = calc(times, "*", has)
    step2, gap = calc(other, "-", has)
    question = (
        f"{first} {past} {count(has, item)} and {second} {past} {word} as many. How many more {plural(item)} did "
        f"{second} {verb} than {first}?"
    )
    return question, f"{second} {past} {step1} {plural(item)}. {step2}.", gap


@shared
def free_seats(dice: Dice) -> Problem:
    rows, each = dice.number(6, 18), dice.number(8, 20)
    taken = dice.number(rows, rows * each - 5)
    place = dice.pick(("cinema", "theatre", "lecture hall", "circus tent", "school hall"))
    step1, seats = calc(rows, "*", each)
    step2, free = calc(seats, "-", taken)
    question = dice.pick(
        (
            f"A {place} has {rows} rows of {each} seats. {taken} seats are taken. How many seats are free?",
            f"{taken} people sit down in a {place} with {rows} rows and {each} seats in each row. How many seats stay "
            "empty?",
        )
    )
    return question, f"There are {step1} seats. {step2}.", free


@shared
def two_kinds_of_goods(dice: Dice) -> Problem:
    name = dice.pick(NAMES)
    item1, item2 = dice.pick_two(GOODS)
    number1, number2, price1, price2 = (dice.number(2, 7), dice.number(2, 7), dice.number(2, 9), dice.number(2, 9))
    step1, cost1 = calc(number1, "*", price1)
    step2, cost2 = calc(number2, "*", price2)
    step3, total = calc(cost1, "+", cost2)
    question = (
        f"{name} buys {count(number1, item1)} for {price1} euros each and {count(number2, item2)} for {price2} euros "
        "each. How many euros is that altogether?"
    )
    return question, f"The {plural(item1)} cost {step1} and the {plural(item2)} {step2}. {step3}.", total


@shared
def fence_around(dice: Dice) -> Problem:
    long, short = dice.number(8, 40), dice.number(3, 7)
    place = dice.pick(("garden", "paddock", "playground", "vegetable patch", "car park"))
    step1, half = calc(long, "+", short)
    step2, fence = calc(2, "*", half)
    question = dice.pick(
        (
            f"A rectangular {place} is {long} metres long and {short} metres wide. How many metres of fence go all the "
            "way around it?",
            f"{dice.pick(NAMES)} walks once around a rectangular {place} of {long} by {short} metres. How many metres "
            "is that?",
        )
    )
    return question, f"One long and one short side make {step1} metres. {step2}.", fence


@shared
def weekly_distance(dice: Dice) -> Problem:
    name, pronoun = dice.pick(PEOPLE)
    daily, days, extra = dice.number(3, 18), dice.number(3, 6), dice.number(5, 40)
    move, past = dice.pick((("cycle", "cycled"), ("walk", "walked"), ("run", "ran")))
    step1, week = calc(daily, "*", days)
    step2, total = calc(week, "+", extra)
    question = dice.pick(
        (
            f"{name} {past} {daily} kilometres on each of {days} days and {extra} kilometres on Sunday. How many "
            f"kilometres did {pronoun} {move} in all?",
            f"On {days} days {name} {past} {daily} kilometres a day, and at the weekend another {extra}. What is the "
            "total in kilometres?",
        )
    )
    return question, f"The {days} days make {step1} kilometres. {step2}.", total


@shared
def recipe_for_more(dice: Dice) -> Problem:
    base, times, amount = dice.number(2, 6), dice.number(2, 6), dice.number(2, 9)
    dish, items = dice.pick(
        (
            ("soup", ("carrot", "leek", "tomato")),
            ("stew", ("carrot", "potato", "onion")),
            ("pancake", ("egg", "banana")),
            ("pie", ("apple", "pear", "egg")),
            ("curry", ("tomato", "pepper", "onion")),
        )
    )
    item = dice.pick(items)
    step1, factor = calc(base * times, "/", base)
    step2, total = calc(factor, "*", amount)
    question = (
        f"A {dish} recipe for {base} people needs {count(amount, item)}. How many {plural(item)} are needed for "
        f"{base * times} people?"
    )
    return question, f"The recipe has to be made {step1} times. {step2}.", total


@shared
def baked_sold_bagged(dice: Dice) -> Problem:
    name, pronoun = dice.pick(PEOPLE)
    item = dice.pick(("roll", "bun", "muffin", "pretzel", "scone"))
    trays, each, bag = dice.number(3, 8), dice.number(6, 20), dice.number(3, 6)
    total = trays * each
    bags = dice.number(2, (total - 4) // bag)
    step1, baked = calc(trays, "*", each)
    step2, rest = calc(baked, "-", total - bags * bag)
    step3, _ = calc(rest, "/", bag)
    question = (
        f"{name} bakes {trays} trays of {count(each, item)}, sells {total - bags * bag} and packs the rest into bags "
        f"of {bag}. How many bags does {pronoun} fill?"
    )
    return question, f"{name} bakes {step1} {plural(item)} and keeps {step2}. {step3}.", bags


@shared
def leaking_tank(dice: Dice) -> Problem:
    hourly, hours, left, refill = dice.number(2, 9), dice.number(3, 8), dice.number(15, 90), dice.number(5, 40)
    tank = dice.pick(("tank", "pond", "rain barrel", "paddling pool", "trough"))
    step1, lost = calc(hourly, "*", hours)
    step2, rest = calc(lost + left, "-", lost)
    step3, now = calc(rest, "+", refill)
    question = (
        f"A {tank} holds {lost + left} litres and loses {hourly} litres an hour. After {hours} hours {refill} litres "
        "are poured in. How many litres does it hold then?"
    )
    return question, f"It loses {step1} litres, which leaves {step2}. {step3}.", now


@shared
def ages(dice: Dice) -> Problem:
    first, second = dice.pick_two(NAMES)
    third = dice.pick([name for name in NAMES if name not in (first, second)])
    age, younger = dice.number(12, 40), dice.number(2, 8)
    times, word = dice.pick(((2, "twice"), (3, "three times")))
    if age - younger > 25:
        times, word = 2, "twice"
    step1, second_age = calc(age, "-", younger)
    step2, third_age = calc(times, "*", second_age)
    question = (
        f"{first} is {age} years old. {second} is {younger} years younger than {first}, and {third} is {word} as old "
        f"as {second}. How old is {third}?"
    )
    return question, f"{second} is {step1} years old. {step2}.", third_age


@shared
def wages_minus_spending(dice: Dice) -> Problem:
    name, pronoun = dice.pick(PEOPLE)
    hourly, hours, days = dice.number(9, 18), dice.number(2, 7), dice.number(2, 5)
    spent = dice.number(6, hourly * hours - 2)
    step1, daily = calc(hourly, "*", hours)
    step2, earned = calc(daily, "*", days)
    step3, left = calc(earned, "-", spent)
    question = (
        f"{name} earns {hourly} euros an hour and works {hours} hours on each of {days} days. Then {pronoun} spends "
        f"{spent} euros. How many euros are left?"
    )
    return question, f"{name} earns {step1} euros a day and {step2} in all. {step3}.", left


@shared
def minutes_of_practice(dice: Dice) -> Problem:
    name, pronoun = dice.pick(PEOPLE)
    pieces, each, rest = dice.number(2, 6), dice.number(6, 25), dice.number(5, 20)
    thing, verb = dice.pick(
        (("song", "practises"), ("exercise", "does"), ("chapter", "reads"), ("worksheet", "finishes"))
    )
    step1, busy = calc(pieces, "*", each)
    step2, total = calc(busy, "+", rest)
    question = (
        f"{name} {verb} {count(pieces, thing)}, {each} minutes for each, and takes a break of {rest} minutes. How many "
        f"minutes does {pronoun} need from start to end?"
    )
    return question, f"The {plural(thing)} take {step1} minutes. {step2}.", total


@shared
def handed_out(dice: Dice) -> Problem:
    item, prize = dice.pick(("pencil", "crayon", "card")), dice.pick(("balloon", "sweet", "sticker"))
    children, each, left = dice.number(8, 28), dice.number(2, 5), dice.number(2, 30)
    step1, given = calc(children, "*", each)
    step2, rest = calc(given + left, "-", given)
    question = (
        f"A teacher has {count(given + left, item)} and gives {each} to each of {children} children. How many "
        f"{plural(item)} are left over?"
    )
    if dice.chance(0.5):
        item = prize
        question = (
            f"{children} children come to a party and each of them gets {count(each, item)}. There were "
            f"{given + left} at the start. How many {plural(item)} remain?"
        )
    return question, f"The children get {step1} {plural(item)}. {step2}.", rest


@shared
def tickets_for_a_family(dice: Dice) -> Problem:
    adults, children, child_price = dice.number(2, 5), dice.number(2, 8), dice.number(3, 8)
    adult_price = child_price + dice.number(2, 7)
    place = dice.pick(("zoo", "museum", "castle", "swimming pool", "funfair"))
    step1, cost1 = calc(adults, "*", adult_price)
    step2, cost2 = calc(children, "*", child_price)
    step3, total = calc(cost1, "+", cost2)
    question = (
        f"A {place} ticket costs {adult_price} euros for adults and {child_price} euros for children. What do {adults} "
        f"adults and {children} children pay in euros?"
    )
    return question, f"The adults pay {step1} and the children {step2}. {step3}.", total


@shared
def swaps(dice: Dice) -> Problem:
    name, pronoun = dice.pick(PEOPLE)
    item, start, given, got = dice.pick(KEEPSAKES), dice.number(20, 90), dice.number(3, 15), dice.number(2, 14)
    other = dice.pick([other for other in NAMES if other != name])
    step1, after = calc(start, "-", given)
    step2, end = calc(after, "+", got)
    question = (
        f"{name} has {count(start, item)}. {capital(pronoun)} gives {given} to {other} and finds {got} new ones. How "
        f"many {plural(item)} does {name} have now?"
    )
    return question, f"After the gift {name} has {step1} {plural(item)}. {step2}.", end


@shared
def steps_in_a_tower(dice: Dice) -> Problem:
    name, pronoun = dice.pick(PEOPLE)
    floors, each, rest = dice.number(4, 15), dice.number(11, 22), dice.number(10, 40)
    tower = dice.pick(("lighthouse", "church tower", "castle tower", "clock tower"))
    step1, total = calc(floors, "*", each)
    step2, left = calc(total, "-", rest)
    question = (
        f"A {tower} has {floors} flights of {each} steps. {name} has climbed {rest} steps. How many more steps are "
        f"there before {pronoun} reaches the top?"
    )
    return question, f"The {tower} has {step1} steps. {step2}.", left


@shared
def legs_on_the_farm(dice: Dice) -> Problem:
    bird, animal = dice.pick(("hen", "duck", "turkey")), dice.pick(("goat", "cow", "donkey", "pig"))
    birds, animals = dice.number(3, 20), dice.number(2, 12)
    step1, legs1 = calc(birds, "*", 2)
    step2, legs2 = calc(animals, "*", 4)
    step3, total = calc(legs1, "+", legs2)
    question = (
        f"{count(birds, bird)} and {count(animals, animal)} are in a farmyard in {dice.pick(TOWNS)}. How many legs do "
        "they have in total?"
    )
    return question, f"The {plural(bird)} have {step1} legs and the {plural(animal)} {step2}. {step3}.", total


@shared
def daily_lead(dice: Dice) -> Problem:
    town1, town2 = dice.pick_two(TOWNS)
    shop, item = dice.pick((("bakery", "loaf"), ("kiosk", "newspaper"), ("florist", "bouquet"), ("cafe", "sandwich")))
    less, lead, days = dice.number(20, 60), dice.number(3, 18), dice.number(3, 14)
    step1, gap = calc(less + lead, "-", less)
    step2, total = calc(gap, "*", days)
    question = (
        f"The {shop} in {town1} sells {less + lead} {plural(item)} a day, the one in {town2} sells {less}. How many "
        f"more {plural(item)} does the first one sell in {days} days?"
    )
    return question, f"Each day it sells {step1} more. {step2}.", total


@shared
def the_rest_of_the_class(dice: Dice) -> Problem:
    walk, cycle, rest = dice.number(3, 14), dice.number(3, 12), dice.number(4, 20)
    group = dice.pick(("school class", "choir", "sports club", "scout group"))
    step1, known = calc(walk, "+", cycle)
    step2, _ = calc(walk + cycle + rest, "-", known)
    question = dice.pick(
        (
            f"There are {walk + cycle + rest} children in a {group}. {walk} of them walk, {cycle} come by bike and the "
            "rest take the bus. How many take the bus?",
            f"Of the {walk + cycle + rest} members of a {group}, {walk} come on foot and {cycle} by bike. All the "
            "others come by car. How many is that?",
        )
    )
    return question, f"{step1} come on foot or by bike. {step2}.", rest


@shared
def rope_into_pieces(dice: Dice) -> Problem:
    name, pronoun = dice.pick(PEOPLE)
    thing = dice.pick(("rope", "ribbon", "cable", "string"))
    piece, pieces, used = dice.number(2, 9), dice.number(3, 15), dice.number(2, 25)
    step1, rest = calc(piece * pieces + used, "-", used)
    step2, _ = calc(rest, "/", piece)
    question = (
        f"{name} uses {used} metres of a {thing} that is {piece * pieces + used} metres long and cuts the rest into "
        f"pieces of {piece} metres. How many pieces does {pronoun} get?"
    )
    return question, f"{step1} metres are left. {step2}.", pieces


@shared
def price_cut(dice: Dice) -> Problem:
    item = dice.pick(("chair", "lamp", "jacket", "game", "rug", "blanket"))
    price, cut, number = dice.number(15, 60), dice.number(2, 12), dice.number(2, 8)
    step1, new = calc(price, "-", cut)
    step2, total = calc(new, "*", number)
    question = dice.pick(
        (
            f"A {item} costs {price} euros, but today every {item} is {cut} euros cheaper. What do "
            f"{count(number, item)} cost today in euros?",
            f"The price of a {item} falls by {cut} euros from {price} euros. {dice.pick(NAMES)} buys {number} of them. "
            "How many euros is that?",
        )
    )
    return question, f"One {item} now costs {step1} euros. {step2}.", total


@eval_only
def unknown_start(dice: Dice) -> Problem:
    name, pronoun = dice.pick(PEOPLE)
    item, given, got, start = dice.pick(KEEPSAKES), dice.number(3, 15), dice.number(3, 15), dice.number(16, 70)
    end = start - given + got
    step1, before = calc(end, "-", got)
    step2, _ = calc(before, "+", given)
    question = (
        f"{name} gave away {count(given, item)} and then got {got} new ones. Now {pronoun} has {end}. How many "
        f"{plural(item)} did {name} have at first?"
    )
    return question, f"Before the new ones {name} had {step1} {plural(item)}. {step2}.", start


@eval_only
def unknown_group_size(dice: Dice) -> Problem:
    box, item, _ = dice.pick(PACKED)
    boxes, each, loose = dice.number(3, 9), dice.number(5, 18), dice.number(2, 12)
    step1, packed = calc(boxes * each + loose, "-", loose)
    step2, _ = calc(packed, "/", boxes)
    question = (
        f"{count(boxes, box)} with the same number of {plural(item)} and {loose} loose ones make "
        f"{count(boxes * each + loose, item)}. How many {plural(item)} are in one {box}?"
    )
    return question, f"{step1} {plural(item)} are packed. {step2}.", each


@eval_only
def chain_of_three(dice: Dice) -> Problem:
    first, second = dice.pick_two(NAMES)
    third = dice.pick([name for name in NAMES if name not in (first, second)])
    times, word = dice.pick(((2, "twice"), (3, "three times"), (4, "four times")))
    points, more = dice.number(6, 30), dice.number(2, 15)
    step1, middle = calc(points, "+", more)
    step2, top = calc(times, "*", middle)
    question = (
        f"In a quiz {first} scored {word} as many points as {second}, and {second} scored {more} more than {third}. "
        f"{third} scored {points}. How many points did {first} score?"
    )
    return question, f"{second} scored {step1} points. {step2}.", top


@eval_only
def working_together(dice: Dice) -> Problem:
    first, second = dice.pick_two(NAMES)
    verb, item = dice.pick((("packs", "parcel"), ("folds", "leaflet"), ("plants", "bulb"), ("washes", "plate")))
    rate1, rate2, hours = dice.number(8, 25), dice.number(8, 25), dice.number(2, 8)
    step1, rate = calc(rate1, "+", rate2)
    step2, total = calc(rate, "*", hours)
    question = (
        f"{first} {verb} {count(rate1, item)} an hour and {second} {verb} {rate2}. How many {plural(item)} do they "
        f"finish together in {hours} hours?"
    )
    return question, f"In one hour they finish {step1} {plural(item)}. {step2}.", total


@eval_only
def still_missing(dice: Dice) -> Problem:
    name, pronoun = dice.pick(PEOPLE)
    games, bonus, each, missing = dice.number(3, 9), dice.number(5, 20), dice.number(4, 12), dice.number(5, 40)
    goal = games * each + bonus + missing
    step1, won = calc(games, "*", each)
    step2, have = calc(won, "+", bonus)
    step3, _ = calc(goal, "-", have)
    question = (
        f"{name} needs {goal} points for a prize. So far {pronoun} has won {games} games with {each} points each and a "
        f"bonus of {bonus} points. How many points are still missing?"
    )
    return question, f"The games gave {step1} points, with the bonus {step2}. {step3}.", missing
