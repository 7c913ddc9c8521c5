"""The sentence patterns of task 3, by record type; the words in braces are the slots of make_records.py.

A slot with a capital letter starts a sentence. A pattern without a slot for an optional key gives null for it.
"""

BOOKING_TRAIN = (
    "Book a table at {restaurant} for {party} {on_date} {at_time}.",
    "{On_date} {at_time} we need {room} for {party}.",
    "Please reserve {room} {on_date} {at_time}, there will be {n} of us.",
    "{Party} would like to eat at {restaurant} {on_date}.",
    "Can we have {room} {on_date} for {party}?",
    "A table for {n} at {restaurant}, {date}, {time}, please.",
    "{Restaurant} is expecting {party} {on_date} {at_time}.",
    "I'd like to book {room} {at_time} {on_date}. We are {n}.",
    "Put {party} down for {room} {on_date}.",
    "Is {room} free {on_date} {at_time}? It is for {party}.",
    "A meal for {n} at {restaurant} {at_time} {on_date}, under the usual name.",
    "We will be {n} at {restaurant} {on_date}, so please keep a table.",
    "Hold {room} for {party}, {date} {at_time}.",
    "My sister wants {restaurant} {on_date} {at_time} for her birthday, {n} guests.",
    "Please keep a table for {n} at {restaurant} {at_time}.",
)
BOOKING_EVAL = (
    "For {party}, {room}, {date}, {time}: can you arrange that?",
    "There are {n} of us and we'd love to come to {restaurant} {on_date} {at_time}.",
    "{Room} {on_date}, please, for a group of {n}.",
    "Could {restaurant} fit in {party} {at_time} {on_date}?",
    "Our club, {party} in all, needs {room} {on_date} {at_time}.",
    "Make it {restaurant} for {n}, {at_time} {on_date}.",
    "Ring {restaurant} and ask for a table for {n} {on_date}.",
)

DELIVERY_TRAIN = (
    "Deliver {goods} to {city} {on_date}.",
    "{Goods} should go to {city} {on_date}.",
    "Send {goods} to our shop in {city}.",
    "{On_date} the van takes {goods} to {city}.",
    "The customer in {city} is waiting for {goods}.",
    "Please have {goods} in {city} by {date}.",
    "{City} needs {goods} {on_date}.",
    "We are dropping off {goods} in {city} {on_date}.",
    "The order is for {goods}, to be taken to {city} {on_date}.",
    "Can you get {goods} to {city} by {date}?",
    "Next stop {city}: unload {goods}.",
    "{On_date}, {city}: {goods}, to be left at the front door.",
    "Please add {goods} to the truck for {city}.",
    "There is a delivery of {goods} due in {city} {on_date}.",
    "My aunt in {city} has ordered {goods} and wants the parcel {on_date}.",
)
DELIVERY_EVAL = (
    "{Goods} for {city}, arriving {on_date}.",
    "Make sure that {city} gets {goods} {on_date}.",
    "Drive to {city} {on_date} and hand over {goods}.",
    "The hotel in {city} has asked us for {goods}.",
    "By {date} we have to bring {goods} to {city}.",
    "Load {goods}; the address is in {city} and the day is {date}.",
    "Somebody in {city} bought {goods}, no rush.",
)

REMINDER_TRAIN = (
    "Remind me to {task} {on_date} {at_time}.",
    "{On_date} I have to {task}.",
    "Don't let me forget to {task} {at_time}.",
    "I must {task} {on_date} {at_time}.",
    "{At_time} {on_date}, {task}.",
    "Note to self: {task} by {date}.",
    "Can you nudge me {on_date} to {task}?",
    "Set an alarm for {time} {on_date}, I need to {task}.",
    "To do {on_date}: {task}.",
    "It is my turn to {task} {on_date}.",
    "Please tell me {at_time} that I should {task}.",
    "{Task}! Ping me {on_date} {at_time}.",
    "I promised to {task} {on_date}, so give me a nudge {at_time}.",
    "I keep forgetting to {task}.",
    "{Date} is the last day to {task}.",
)
REMINDER_EVAL = (
    "If I don't {task} {on_date}, I'm in trouble.",
    "Give me a shout {at_time} {on_date} so that I {task}.",
    "Before I forget: {task} {on_date} {at_time}.",
    "Tell me again {on_date} to {task}.",
    "{On_date}, {at_time}: time to {task}.",
    "I ought to {task} one of these days.",
    "Put it in my calendar that I need to {task}, {date} {at_time}.",
)

EXPENSE_TRAIN = (
    "I spent {money} on {item} {on_date}.",
    "{Item} cost me {money} {on_date}.",
    "{Money} for {item}.",
    "Paid {money} for {item} {on_date}.",
    "{On_date} {money} went on {item}.",
    "The bill for {item} came to {money}.",
    "Please log {money} under {item}, {date}.",
    "{Item}: {money}, {date}.",
    "I handed over {money} {on_date} to pay for {item}.",
    "My part of the {item} set me back {money}.",
    "Add an expense of {money} for {item} {on_date}.",
    "My card was charged {money} for {item} {on_date}.",
    "Cash paid {on_date}: {money}, {item}.",
    "We owe Petra {money} because she paid for {item} {on_date}.",
    "How did {item} get so expensive? {Money} {on_date}!",
)
EXPENSE_EVAL = (
    "{On_date} I paid for {item}, {money} in total.",
    "It took {money} to cover {item}.",
    "Write down {item} at {money} for {date}.",
    "Another {money} gone, this time on {item}.",
    "For {item} I gave the cashier {money} {on_date}.",
    "{Money} left my wallet {on_date} for {item}.",
    "Claim back {money}, spent on {item} {on_date}.",
)

# by what is measured
MEASUREMENT_TRAIN = {
    "weight": (
        "{Subject} weighs {value}.",
        "{On_date} the scales showed {value} for {subject}.",
        "I put {subject} on the scales and read {value}.",
        "At {value}, {subject} is heavier than we thought.",
    ),
    "temperature": (
        "It is {value} in {subject}.",
        "The thermometer in {subject} read {value} {on_date}.",
        "{Subject} had reached {value} when I checked {on_date}.",
        "{On_date} we measured {value} in {subject}.",
    ),
    "length": (
        "{Subject} is {value} long.",
        "I measured {subject} {on_date}: {value}.",
        "The length of {subject} is {value}.",
        "From end to end {subject} measures {value}.",
    ),
    "volume": (
        "{On_date} {subject} held {value}.",
        "{Subject} contains {value}.",
        "We filled {subject} with {value} {on_date}.",
        "Level of {subject}: {value}.",
    ),
}
MEASUREMENT_EVAL = {
    "weight": (
        "How heavy is {subject}? {Value}, I checked {on_date}.",
        "{Subject} came to {value} on the scales {on_date}.",
    ),
    "temperature": (
        "Temperature in {subject}: {value}.",
        "{Subject} was at {value} when I looked {on_date}.",
    ),
    "length": (
        "{Value} is how long {subject} turned out to be {on_date}.",
        "The tape measure says {value} for {subject}.",
    ),
    "volume": (
        "I drained {value} out of {subject} {on_date}.",
        "{Subject} has {value} left in it.",
    ),
}
