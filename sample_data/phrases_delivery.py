"""Customer messages about parcels and the things in them: seven intents.

One phrasing starts with "- "; lines that follow it without a dash belong to it. The words in braces are the
slots of make_intents.py.
"""

LATE_PARCEL_TRAIN = """
- Order {order} was promised for {day} and I am still waiting.
- Where is my {product}? It should have been here {days} ago.
- still no {product}, {days} overdue
- The tracking page has said "in transit" for {days} now and nothing moves.
- I ordered {a_product} for my sister's birthday. The party was on {day}, the cake is long gone, and the present
  is still somewhere between your warehouse and {city}.
- How much longer do I have to wait for order {order}?
- You advertise delivery within two working days. It has now been {days}.
- I do not want a refund and I do not want to cancel, I only want to know when the {product} will get here.
- My parcel has been sitting at the depot in {city} since {day}. Is anyone going to load it onto a van?
- I took {day} off work to be home for the driver and nobody came. No card, no message, and the app still says
  "out for delivery".
- eta for {order}? was due {day}
- Your email said the {product} would arrive by {date}. That day has come and gone.
- Is there a strike or something? My neighbour ordered after me and her {product} is already here.
- I keep refreshing the map and the little van never leaves {city}.
- Every morning the expected date moves back by another day. It was {date} at first. What is going on with
  order {order}?
- We moved in with a suitcase and two mugs, and the {large} I bought from you {days} ago was meant to make the
  place feel like home. We are still staring at an empty corner.
- The {product} left the warehouse on {date} according to you, so why is it not in {city} yet?
"""

LATE_PARCEL_EVAL = """
- It is {day} again and the doorbell has not rung. Order {order}, in case you need it.
- Could you chase the courier for me? The {colour} {product} was supposed to come last week.
- {order} stuck in {city} for {days}, any news?
- I paid extra for next-day shipping and that was {days} ago.
- My mother-in-law visits on {day} and the {product} she gave us the money for has not turned up. It was shipped,
  I have the number, but it has not been scanned since {city}.
- Did you forget about me? I have been waiting for the {product} for {days} longer than you said.
- At what point should I start to worry? The estimate was {date} and the status just says it is on its way.
"""

MISSING_DELIVERY_TRAIN = """
- Tracking says my {product} was delivered on {day}, but there is nothing here.
- The app shows order {order} as delivered. It was not delivered to me.
- "Left with a neighbour". Which neighbour? I have asked everyone in the building and nobody has my {product}.
- The photo the driver took on {day} shows a {colour} door. Mine is {colour2}.
- {order} marked as delivered, nothing on the doorstep
- According to the courier somebody signed for order {order} at noon. I live alone and I was in {city} that day.
- I was at home all of {day}, the bell never rang, and yet your system claims the parcel was handed over.
- My {product} has apparently been handed to a person called {name}. Nobody of that name lives here.
- I checked the porch, the shed, the bins and behind the hedge. Your driver swears he left the {product} here.
- Could you ask the driver where exactly he put order {order}? The status is "complete" and my hands are empty.
- I think someone stole my parcel on {day}. It was dropped outside in the morning and gone when I came home.
- I came back from {days} in {city} to a message that my {product} is waiting on the step. It isn't.
- The parcel shop in {city} says they already gave my {product} to someone who showed a code. That someone was
  not me.
- delivered? to whom? order {order}
- Your courier's map pins the drop-off two streets away from my house. The status is green, everything is
  apparently fine, but I never got the {product}.
- It is not late, it is gone. The tracking for {order} ended on {day} with a signature I have never seen.
- Our office reception logs every parcel. There is no entry for {date}, although you say that is when the
  {product} was dropped off.
"""

MISSING_DELIVERY_EVAL = """
- Who accepted order {order}? The proof of delivery has a scribble on it that is not my name.
- Status: delivered. Reality: no {product} anywhere.
- The locker in {city} opened and it was empty, although the app insists the {product} was inside.
- I got the "your parcel has arrived" message on {day} while I was standing at the front door. There was no
  driver and no box.
- We have a camera above the door. Nobody came near the house on {date}, so I would like to know how the {colour}
  {product} can be "in the porch".
- order {order} ticked off as received, i have not seen it
- My kids, my husband and the lady next door all say the same: no parcel came. You say it did, {days} ago.
"""

DAMAGED_ITEM_TRAIN = """
- The {product} arrived with a crack right down the side.
- My {product} came out of the box in three pieces.
- The box was crushed and so is the {product} inside it.
- Order {order} got here today, a day early even, but the {product} is badly scratched.
- there is a big dent in my new {product}
- I do not want my money back, I want {a_product} that isn't broken. This one was already bent when I unpacked it.
- Lovely {colour} wrapping paper, shame about the smashed {product} underneath.
- The courier must have dropped it. I can hear bits rattling inside the {product} and I have not even used it yet.
- One corner of the {product} has broken off. I have photos if you need them.
- I opened the parcel in front of my daughter, who had been waiting {days} for it, and the {product} had a hole in
  it the size of a coin.
- The {product} is the right one and the right shade of {colour}, but the surface is chipped all over.
- Who packs these boxes? No padding at all, and now I own {a_product} with a split down the middle.
- Everything in order {order} survived the trip except the {product}, which is in bits.
- got the {product} on {day}, its all scuffed and one side is caved in
- The parcel was soaking wet when it reached {city}, and the {product} is stained and warped.
- Is it normal for a new {product} to have scratches and glue marks? It looks as if it fell off a lorry.
- The seal was intact, the outer carton was perfect, and still the {product} inside had snapped.
"""

DAMAGED_ITEM_EVAL = """
- I lifted the lid and found fragments. The {product} did not survive the journey to {city}.
- Your {product} looks as if someone sat on it.
- cracked on arrival, order {order}
- I was so happy that it came on {day}. Then I took off the bubble wrap and saw that the {colour} {product} has a
  deep gouge across the front.
- The delivery driver apologised and said it had been under something heavy. You can tell: my {product} is squashed
  on one side.
- Can you send a new {product}? Mine was ruined before I even cut the tape.
- We gave the {product} to my father unopened on {date}. He was polite about it, but there were chips all along the
  rim and one edge had come apart.
"""

WRONG_ITEM_TRAIN = """
- I ordered {a_product} and got {a_other}.
- The {product} is {colour}. I asked for {colour2}.
- This is not what I bought. The box says {other}, my receipt says {product}.
- you sent me somebody else's order, mine is {order}
- Order {order} was for a {colour} {product}. What turned up is {a_other}, nicely packed and in perfect condition,
  just not mine.
- I think two labels got swapped. My parcel had {name}'s {other} in it.
- There is nothing broken about the {other} you sent, but I never wanted {a_other}.
- Why is there {a_other} in my box?
- I paid for the large version of the {product} and received the tiny one.
- asked for {colour}, got {colour2}, order {order}
- My son opened the parcel on his birthday expecting {a_product}. He now has {a_other}, which he is too polite to
  complain about.
- The model number on the {product} does not match the one on my order confirmation.
- It arrived on time and undamaged, so full marks for the courier, but whoever picked it off the shelf took the
  {other} instead of the {product}.
- Funny mix-up: someone in {city} is probably wondering where their {other} is, because it is on my kitchen table.
- I was sent the older model of the {product}, not the new one in the picture.
- Do you want the {other} back? I assume another customer is missing it, and I still need my {product}.
- For the second time in a row the {product} you sent is {colour} instead of {colour2}.
"""

WRONG_ITEM_EVAL = """
- The packing slip is right, the contents are not: no {product}, one {other}.
- I don't know what I am supposed to do with {a_other}. My order was a {colour} {product}.
- order {order}: {other} received, {product} expected
- My husband says I should just keep the {colour} one, but we picked {colour2} because it goes with the curtains.
- Could it be that my parcel and another customer's were mixed up? Mine is addressed to me, but everything inside
  was meant for {name}.
- You swapped my {product} for something I have never even looked at on your site.
- It works, it is pretty, it came on {day} as promised. It is also a completely different article from the one I
  picked, which was {a_product}.
"""

MISSING_PART_TRAIN = """
- The {assembly} came without {part}.
- I have everything laid out on the floor, but I cannot find {part}.
- I ordered the {product} twice, and there was only one in the box.
- Step four of the manual for the {assembly} says to use {part}. I was not given any such thing.
- order {order} incomplete, {part} not included
- The {assembly} should come in two cartons, and you only packed one.
- Half of order {order} is in the parcel. The {product} is there, the {other} is not, and both are ticked on the
  slip.
- My {assembly} has been lying on its side in the hall for {days} because there is nothing to screw it together with.
- The {device} is fine, but there was no power cable in the package.
- We spent all of {day} evening building the {assembly} and got to the last page, only to notice that you left out
  {part}.
- Could you post me {part} for the {assembly}? The pack had everything else.
- I counted twice. Twelve bolts on the parts list of the {assembly}, nine in the bag.
- Your website says the {device} includes a spare fuse and a cleaning brush. I found neither.
- where is the rest of my {assembly}
- Nothing is damaged and it is the right {colour}, but without {part} I can't put the {assembly} together.
- The plug adapter for the {device} was not in the box, only the sleeve where it should have been.
- The gift box in order {order} should hold six candles. Mine holds five and a gap.
"""

MISSING_PART_EVAL = """
- The {assembly} wobbles because one of its feet was never in the carton.
- Manual in nine languages, but you forgot {part}.
- my {assembly} box has an empty bag where {part} should be
- I ordered {a_product} and {a_other} together. Only the first one was in the big half-empty box, with both crossed
  off the packing list.
- The picture shows the {device} on its stand. I got the {device} and no stand.
- My brother-in-law is a carpenter and even he could not finish the {assembly}, since {part} never made it into the
  package.
- We are four people and there are three chairs. The dining set you sent on {date} should have had four.
"""

WARRANTY_CLAIM_TRAIN = """
- My {device} stopped working after {months}.
- I have used the {device} for {months} and now it will not switch on any more.
- Does the guarantee cover {a_device} that died after {months}?
- The {device} from order {order} gave up yesterday. It is only {months} old.
- The {device} was perfect when it came in {month}, but now it makes a grinding noise and smells of burning.
- two-year warranty, {device} dead after {months}. how do i claim
- How do I get the {device} repaired? I still have the receipt from {month}.
- The button on my {device} came off in my hand this morning. I have treated it with care for {months}.
- I know you say it lasts a lifetime. My {device} lasted {months}.
- We use the {device} every morning. Since {day} it just blinks {colour} and does nothing, and I believe it is still
  covered.
- Within how long can I report a fault? My {device} is {months} old and has started to overheat.
- I registered the {device} for the extended cover when I bought it, and now that it has failed I cannot find where
  to send it.
- Something inside my {device} burnt out after {months} of light use.
- Not a delivery problem: the {product} came in one piece back in {month}. But it has now come apart under normal
  use, and I think that is covered.
- Do you repair or replace {a_device} that quits while it is still under guarantee?
- {Months} and it is finished. I expected more from {a_device} at {amount}.
- My old one ran for ten years. The {device} you sold me in {month} has already broken down twice.
"""

WARRANTY_CLAIM_EVAL = """
- Yesterday there was a small pop and now the {device} is dead. I have had it since {month}.
- What do I have to send in for a claim on my {device}? It failed a long way before the two years were up.
- {device} quit after {months}, still have proof of purchase
- I am fond of the {colour} {device} and it did its job all winter, but since {day} the switch has no effect. Surely
  that should not happen after {months}?
- Can a technician look at my {device}? It used to be quiet and now it howls.
- Bought in {month}, loved every day, broken since {day}. Is my {device} still within the cover period?
- According to the leaflet, faults in the first two years are put right free of charge. My {device} has developed
  one.
"""

SIZE_EXCHANGE_TRAIN = """
- The {garment} is too tight. Can I swap the {small} for a {big}?
- I need the {colour} {garment} one size up.
- sleeves too long, want the {garment} in {small}
- I love the {garment} but I am drowning in it. Do you have it in {small}?
- Your size chart told me {big}, the mirror tells me {small}. It is about the {colour} {garment}.
- Could I send the {garment} back and get the same one in {big}? I don't want my money back.
- My son has grown since I placed order {order}, and the {garment} no longer goes over his shoulders. Is a {big}
  possible?
- How do exchanges work? The {garment} fits everywhere except around the waist, where I would need a {big}.
- It is the right {garment} in the right {colour}, and I did order {small}, it just won't stretch that far.
- The {garment} runs small. Everyone in the reviews says so and I should have listened. A {big}, please.
- I kept the tags on. The {garment} hangs off me, so please replace it with a {small}.
- swap {big} {garment} for {small}?
- I wore the {garment} around the living room for ten minutes and could hardly breathe. Can you post me the {big}
  before I go to {city} on {day}?
- My wife guessed my size for our anniversary and flattered me. The {garment} should have been a {big}.
- Please change my {garment} from {small} to {big}. I have already put the first one back in its bag.
- The sleeves of the {colour} {garment} reach my knees.
- Is the {big} still available in {colour}? The {small} {garment} I got from you pinches at the neck, so I would
  trade it.
"""

SIZE_EXCHANGE_EVAL = """
- I can't even pull the {garment} over my head.
- Does the {garment} come in {big}? The one in order {order} is a bit snug and I would rather trade it than return it.
- one size down please, order {order}
- I am between sizes and picked wrong. The {big} {garment} slides off, so I would like the other one.
- We bought matching {colour} tops for a family photo and mine looks like a tent. Can I still have a {small} by {day}?
- The {garment} is lovely, the cut just isn't made for tall people like me. Would you exchange it for a {big}?
- My daughter tried on the {garment} this morning and the cuffs end at her elbows.
"""
