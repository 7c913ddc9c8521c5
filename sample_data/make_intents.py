"""Task 1: route a customer's message to one of twenty intents."""

from __future__ import annotations

import re

from . import phrases_account as account
from . import phrases_delivery as delivery
from . import phrases_money as money
from .dice import Dice
from .english import MONTHS, WEEKDAYS, capital, listed, with_article

# label: (phrasings for train, phrasings for eval)
INTENTS = {
    "late_parcel": (delivery.LATE_PARCEL_TRAIN, delivery.LATE_PARCEL_EVAL),
    "missing_delivery": (delivery.MISSING_DELIVERY_TRAIN, delivery.MISSING_DELIVERY_EVAL),
    "damaged_item": (delivery.DAMAGED_ITEM_TRAIN, delivery.DAMAGED_ITEM_EVAL),
    "wrong_item": (delivery.WRONG_ITEM_TRAIN, delivery.WRONG_ITEM_EVAL),
    "missing_part": (delivery.MISSING_PART_TRAIN, delivery.MISSING_PART_EVAL),
    "warranty_claim": (delivery.WARRANTY_CLAIM_TRAIN, delivery.WARRANTY_CLAIM_EVAL),
    "size_exchange": (delivery.SIZE_EXCHANGE_TRAIN, delivery.SIZE_EXCHANGE_EVAL),
    "refund_request": (money.REFUND_REQUEST_TRAIN, money.REFUND_REQUEST_EVAL),
    "refund_status": (money.REFUND_STATUS_TRAIN, money.REFUND_STATUS_EVAL),
    "double_charge": (money.DOUBLE_CHARGE_TRAIN, money.DOUBLE_CHARGE_EVAL),
    "unknown_charge": (money.UNKNOWN_CHARGE_TRAIN, money.UNKNOWN_CHARGE_EVAL),
    "payment_declined": (money.PAYMENT_DECLINED_TRAIN, money.PAYMENT_DECLINED_EVAL),
    "invoice_copy": (money.INVOICE_COPY_TRAIN, money.INVOICE_COPY_EVAL),
    "discount_code": (money.DISCOUNT_CODE_TRAIN, money.DISCOUNT_CODE_EVAL),
    "cancel_order": (account.CANCEL_ORDER_TRAIN, account.CANCEL_ORDER_EVAL),
    "cancel_subscription": (account.CANCEL_SUBSCRIPTION_TRAIN, account.CANCEL_SUBSCRIPTION_EVAL),
    "change_address": (account.CHANGE_ADDRESS_TRAIN, account.CHANGE_ADDRESS_EVAL),
    "password_reset": (account.PASSWORD_RESET_TRAIN, account.PASSWORD_RESET_EVAL),
    "account_locked": (account.ACCOUNT_LOCKED_TRAIN, account.ACCOUNT_LOCKED_EVAL),
    "app_crash": (account.APP_CRASH_TRAIN, account.APP_CRASH_EVAL),
}

TRAIN_ROWS_EACH = 35
EVAL_ROWS_EACH = 15

PRODUCTS = listed(
    "desk lamp, kettle, wall clock, picture frame, storage box, flower pot, bathroom mirror, laundry basket, "
    "toaster, bread bin, alarm clock, umbrella stand, bedside table, coffee grinder, serving tray, birdhouse, "
    "guitar stand, ironing board, egg timer, office chair, lunch box, fruit bowl, stepladder, jewellery box, "
    "salad bowl, phone holder"
)
LARGE_PRODUCTS = listed(
    "bedside table, office chair, laundry basket, umbrella stand, storage box, ironing board, guitar stand, shoe rack"
)
DEVICES = listed(
    "kettle, toaster, coffee grinder, blender, hair dryer, alarm clock, electric heater, desk fan, label printer, "
    "radio, hand mixer, air purifier"
)
ASSEMBLIES = listed(
    "bookshelf, bedside table, coat rack, desk, shoe cabinet, bar stool, garden bench, cot, TV stand, plant shelf"
)
PARTS = listed(
    "the screws, the Allen key, the instruction sheet, one of the bolts, the bag of fittings, one of the feet, "
    "the wooden dowels, two of the brackets"
)
GARMENTS = listed("jacket, jumper, raincoat, hoodie, dress, cardigan, shirt, fleece")
SIZES = (("small", "medium"), ("medium", "large"), ("small", "large"), ("38", "40"), ("40", "42"), ("42", "44"))
DAYS = listed("four days, five days, six days, a week, eight days, nine days, ten days, two weeks, three weeks")
SPANS_OF_MONTHS = listed("two months, three months, four months, five months, seven months, nine months, eleven months")
CITIES = listed("Leeds, Porto, Ghent, Bergen, Turin, Galway, Graz, Malmö, Lyon, Bristol, Utrecht, Aarhus")
COLOURS = listed("red, green, blue, black, grey, white, yellow, purple, brown")
NAMES = listed("Maria, Tom, Aisha, Jonas, Priya, Lena, Omar, Chloe, Ivan, Mei, Pedro, Sofia")
ROADS = listed(
    "Mill Lane, Station Road, Church Street, Park Avenue, Harbour Street, Orchard Way, School Road, Bridge Street"
)
PLANS = listed(
    "monthly coffee plan, premium membership, snack box plan, free-delivery plan, plant club membership, "
    "tea club membership"
)
CODES = listed("SPRING15, WELCOME10, HELLO20, FRIENDS5, BIRTHDAY25, SUNNY12")
CURRENCIES = "£€$"

OPENINGS = ("Hi.", "Hello!", "Hi there.", "Good morning.", "Good evening.", "Dear team.", "Hey!")
CLOSINGS = (
    "Thanks.",
    "Thank you.",
    "Thanks in advance!",
    "Please advise.",
    "Best, {sender}",
    "Kind regards, {sender}",
    "Waiting for your reply.",
    "{sender}",
)


def phrasings(text: str) -> list[str]:
    """The phrasings of a table: one for each "- ", continued lines joined."""
    return [" ".join(part.split()) for part in re.split(r"^- ", text, flags=re.MULTILINE)[1:]]


def roll_slots(dice: Dice) -> dict[str, str]:
    """One value for every slot a phrasing may name."""
    product, other = dice.pick_two(PRODUCTS)
    device = dice.pick(DEVICES)
    colour, colour2 = dice.pick_two(COLOURS)
    day, day2 = dice.pick_two(WEEKDAYS)
    name, sender = dice.pick_two(NAMES)
    small, big = dice.pick(SIZES)
    months = dice.pick(SPANS_OF_MONTHS)
    cents = dice.pick(("", "", ".50", ".90", ".99", ".25"))
    version = ".".join(str(dice.number(low, high)) for low, high in ((2, 6), (0, 9), (1, 9)))
    return {
        "product": product,
        "a_product": with_article(product),
        "other": other,
        "a_other": with_article(other),
        "large": dice.pick(LARGE_PRODUCTS),
        "device": device,
        "a_device": with_article(device),
        "assembly": dice.pick(ASSEMBLIES),
        "part": dice.pick(PARTS),
        "garment": dice.pick(GARMENTS),
        "small": small,
        "big": big,
        "days": dice.pick(DAYS),
        "months": months,
        "Months": capital(months),
        "month": dice.pick(MONTHS),
        "day": day,
        "day2": day2,
        "date": f"{dice.number(1, 28)} {dice.pick(MONTHS)}",
        "amount": f"{dice.pick(CURRENCIES)}{dice.number(6, 89)}{cents}",
        "city": dice.pick(CITIES),
        "street": f"{dice.number(2, 96)} {dice.pick(ROADS)}",
        "colour": colour,
        "colour2": colour2,
        "name": name,
        "sender": sender,
        "order": str(dice.number(10000, 99999)),
        "plan": dice.pick(PLANS),
        "code": dice.pick(CODES),
        "version": version,
    }


def with_typo(dice: Dice, message: str) -> str:
    """The message with one slip of the finger in one of its longer words."""
    words = [match.span() for match in re.finditer(r"(?<![\w'])[a-z]{5,}(?![\w'])", message)]
    if not words:
        return message
    start, end = dice.pick(words)
    at = dice.number(start + 1, end - 3)
    slip = dice.pick(("swap", "drop", "double"))
    if slip == "swap":
        return message[:at] + message[at + 1] + message[at] + message[at + 2 :]
    if slip == "drop":
        return message[:at] + message[at + 1 :]
    return message[: at + 1] + message[at:]


def roll_message(dice: Dice, phrasing: str) -> str:
    """One message: the phrasing with its slots filled, and perhaps an opening, a closing or a slip."""
    slots = roll_slots(dice)
    message = phrasing.format_map(slots)
    if dice.chance(0.25):
        message = f"{dice.pick(OPENINGS)} {message}"
    if message[-1] in '.?!"' and dice.chance(0.25):
        message = f"{message} {dice.pick(CLOSINGS).format_map(slots)}"
    if dice.chance(0.07):
        message = message.lower().rstrip(".")
    if dice.chance(0.07):
        message = with_typo(dice, message)
    return message


def build(dice: Dice, split: str) -> list[dict[str, object]]:
    """The rows of one file; split is "train" or "eval"."""
    messages: set[str] = set()
    rows: list[dict[str, object]] = []
    for label, tables in INTENTS.items():
        is_train = split == "train"
        table = phrasings(tables[0 if is_train else 1])
        for phrasing in dice.rounds(table, TRAIN_ROWS_EACH if is_train else EVAL_ROWS_EACH):
            message = roll_message(dice, phrasing)
            while message.lower() in messages:
                message = roll_message(dice, phrasing)
            messages.add(message.lower())
            prompt = f"Message: {message}\nIntent:"
            rows.append({"prompt": prompt, "completion": " " + label.replace("_", " "), "label": label})
    return dice.shuffled(rows)
