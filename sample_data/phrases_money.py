"""Customer messages about money: seven intents (see phrases_delivery.py for the format)."""

REFUND_REQUEST_TRAIN = """
- I want my money back for the {product}.
- How do I return the {product}? I have changed my mind.
- Can I send order {order} back? It is unopened.
- please refund {amount} for {order}
- The {product} is not as nice as in the pictures and I would like to return it.
- I got the same {product} as a present on {day}, so I no longer need the one I bought. What do I do to get the
  {amount} back?
- Do you offer free returns? I am not keeping the {product}.
- I'd like to hand the {product} back in your shop in {city}. Will I be paid back on my card?
- The {large} doesn't suit our living room at all. Where do I find a return label?
- Nothing wrong with the {colour} {large}, it is just bigger than I thought. I am within the thirty days and would
  like a refund.
- I do not want a replacement or a voucher. I want the {amount} back.
- My mother has moved into a home and will not be needing the {product} after all. It is still in its wrapping.
  Could you take it back and repay her?
- return label for {order} pls
- You took my review down, so I will write here: the {product} is poor quality and I expect to be reimbursed.
- I found the same {product} for half the price in {city}. I'll be sending yours back, so please tell me how.
- How many days do I have to send back {a_product}? I bought it on {date} and I regret it.
- We bought the {product} for a party that has been called off. We would like to give it back.
"""

REFUND_REQUEST_EVAL = """
- Is it too late to get a refund on {a_product} from {date}?
- The {product} and I are not going to be friends. What is the next step to get my {amount} back?
- want to return {product}, never used
- I'm not unhappy with you, the parcel came quickly. My partner simply hates {colour}, and so the {product} has to go
  back for the full price.
- Could a courier collect the {product} from my flat in {city}? I would like the payment reversed.
- I hoped the {large} would fit on our balcony and it does not, by two centimetres. Will you take it back?
- Please tell me where to post order {order} so that I can get reimbursed.
"""

REFUND_STATUS_TRAIN = """
- When will I get my refund for the {product}?
- I sent the {product} back {days} ago and still have no money.
- Your warehouse signed for my return on {date}. When will the {amount} be on my account?
- refund for {order}, how much longer
- You confirmed the refund on {day}. My bank has seen nothing.
- The return shows as "received", but the {amount} has not been paid out.
- How long does it usually take for the money to come back? I dropped the parcel off in {city} {days} ago.
- I was told one to two working days for the repayment. It has been {days}.
- Has my return been processed yet? Order {order}.
- I cancelled the {product} before it was shipped and you promised to repay me. So far, nothing.
- My bank says they never got a transfer from you. You say it went out on {date}. One of you is wrong about the
  {amount}.
- I'm not asking for another {product}, I'm asking where the {amount} is that you have owed me since {date}.
- Only {amount} has come back so far. When does the rest of the refund follow?
- We returned the {colour} {product} in {month} because it was faulty, my colleague spoke to {name} on the phone, and
  it was all agreed. I would just like to know whether the payment is on its way.
- Can you check whether the refund for {order} went to my old card? That one was closed last month.
- money back yet? returned {product} on {date}
- I have the drop-off receipt, I have your email saying "all done", and I have a bank statement with a gap where
  {amount} should be.
"""

REFUND_STATUS_EVAL = """
- Still waiting for you to pay me back for order {order}.
- Could you tell me on what day the transfer for the returned {product} was made?
- {days} since my return reached you, {amount} still open
- I check my account every morning like a fool. The {product} has been back with you since {date}.
- Your colleague {name} wrote that the credit would appear by {day}. It has not.
- The label you gave me was scanned in {city}, so I know the {product} arrived. What is holding up my {amount}?
- I don't wish to start another return, the first one is not finished: the {product} is with you and the money is too.
"""

DOUBLE_CHARGE_TRAIN = """
- I was charged twice for order {order}.
- There are two payments of {amount} on my statement for the same {product}.
- You took {amount} on {day} and again on {day2}. I only bought one {product}.
- charged 2x for {order}
- The payment page froze, I pressed the button again, and now {amount} has gone out two times.
- My bank app shows the same {amount} once in the morning and once in the afternoon.
- Why have I paid for the {product} two times over?
- I recognise the first {amount}, that's my {product}. The second one is the same thing again.
- One order, one {product}, two debits. Please give one of them back.
- First it said "payment failed" for {order}, so I tried once more. In the end both went through.
- You collected the {amount} by card and by bank transfer as well.
- I'm looking at my credit card bill: {amount}, {amount}. Same day, same shop, same reference {order}.
- My husband paid in the app, I paid on the website, and we only wanted a single {product} between us. There is one
  order, but the money went out both times.
- the {product} cost {amount} and you took that much again
- There's a duplicate on my statement from {date}.
- I was billed for this month's {plan} on {date} and then billed for the very same month again on the following day.
- I rang on {day} and {name} said one of the two would disappear by itself. Both bookings of {amount} are still there
  after {days}.
"""

DOUBLE_CHARGE_EVAL = """
- Can you see on your side that the {amount} for order {order} came in two times?
- My account is down by {amount} more than it should be, because the same purchase was booked again a minute later.
- paid once, debited twice, {amount}
- I like the {product}, but not enough to buy it a second time. That is what my statement says I did.
- The confirmation mail for {order} arrived in duplicate and so did the charge.
- Something hiccuped when I paid on the train to {city}: the app asked me to confirm again, and both payments have now
  cleared.
- Please reverse the extra {amount}. The original payment on {date} was enough.
"""

UNKNOWN_CHARGE_TRAIN = """
- I don't recognise a payment of {amount} to your shop.
- What is the {amount} you took from my card on {date}?
- I have never ordered anything from you, yet there is {amount} on my statement.
- who charged me {amount}??
- There is a debit from your company dated {day}. I did not buy anything that week.
- My bank flagged {amount} from your shop. Can you tell me what it was for?
- I think someone is using my card. {amount} in {city}, and I have not been to {city} in years.
- I've gone through all of my orders and none of them comes to {amount}.
- You charged me {amount}, but my order list is empty.
- It isn't a double booking, I simply have no idea what this {amount} is for.
- We are a retired couple and we check every line of our statement with a ruler. Nobody here knows anything about your
  {amount} of {date}.
- My daughter says she did not do it, my son says he did not do it, so who bought {a_product} with my card?
- fraud? {amount} from you on {day}, not mine
- Please explain the line with your name and the reference {order} on my bill. That is not one of my order numbers.
- I closed my account in {month}. Why is there a new charge of {amount}?
- A stranger seems to have paid for {a_product} with my details. I only noticed because the bank sent me a text.
- I've never heard of the {plan}, but apparently I am paying {amount} for it.
"""

UNKNOWN_CHARGE_EVAL = """
- {amount} left my account on {date} with your name on it. For what?
- Could somebody have used my card at your shop in {month} without my knowledge?
- mystery payment, {amount}, {date}
- I was tidying up my bank papers on {day} when I came across a purchase from you that neither I nor my wife can place.
  It says {amount}.
- The purchase listed as {order} was not made by me or anyone I know.
- I'd like to know what I am supposed to have bought from you in {month}, as I was in hospital at the time.
- Your shop shows up on my card under {city}. I live nowhere near there and own nothing of yours.
"""

PAYMENT_DECLINED_TRAIN = """
- My card keeps being declined when I try to buy {a_product}.
- The checkout will not accept my card, although there is plenty of money on it.
- I'm trying to pay {amount} for the {product} and it fails every time.
- payment failed again, {product} not ordered
- My bank says everything is fine on their side, but your page says "transaction refused" for the {amount}.
- Why can't I pay by bank transfer any more? I get an error at the last step.
- I've tried three cards since {day}. None of them works in your shop.
- The {product} has been in my basket since {day} because I can't get past the payment page.
- After I enter the code from my bank, it jumps back and says "not authorised".
- The {amount} has not been taken, I checked. The order just never goes through.
- Is there another way to pay for the {product}? Your site does not seem to like cards from abroad.
- "Insufficient funds", it says. I was paid on {day} and the {product} costs {amount}.
- The wheel spins, then it tells me to use a different payment method. There is nothing wrong with this one, I bought
  bread with it this morning.
- old card expired and the new one is rejected too
- It is my niece's birthday on {day}, the {product} is the last one in stock, and your till says no to me every single
  time.
- I was told the order for the {product} is on hold since the payment did not succeed. How do I try again?
- The {plan} could not be renewed since my card was turned down, and I don't see why.
"""

PAYMENT_DECLINED_EVAL = """
- The bank approves it on my phone and two seconds later your site says the {amount} could not be collected.
- I would happily give you {amount} for the {product} if you would only let me.
- wont take my card, error at checkout, basket {amount}
- Same card as always, same three digits on the back, and on {day} it suddenly gets turned away.
- How do I finish an order when the last page keeps throwing me out with "could not be authorised"? It is about
  {a_product}.
- I stood in our kitchen for half an hour with my purse open and typed in every card the family owns, all for one
  {product}. Your shop did not want a single one of them.
- My {amount} was not debited and the {product} wasn't booked. It just says "please try a different card".
"""

INVOICE_COPY_TRAIN = """
- Please send me the invoice for order {order}.
- I need a copy of the bill for the {product}.
- Where can I download my receipt for {order}?
- My accountant needs paperwork for the {amount} I spent on {date}.
- invoice {order} pdf pls
- I've lost the receipt for the {product} I bought in {month}. Can you print me another?
- There was no bill in the box with my {product}.
- Could the invoice for {order} be made out to my company? We are based in {city}.
- I have to hand in my expenses by {day} and the only document missing is yours for {amount}.
- How do I get a document that shows the tax on order {order}?
- The link to the bill in your email of {date} is dead.
- It isn't about a refund or a wrong charge. I only need the {amount} in writing for the tax office.
- We are redoing the books for last year, and I cannot find anything on paper about {a_product} from {month}. Could you
  help out?
- can u email receipt for {product} again
- My boss will pay me back for the {product}, but only if I can show her something official.
- The bill you sent me for {order} has my old company name on it. Could I have a corrected one?
- I'd like all of my invoices from {month}, in one file if that is possible.
"""

INVOICE_COPY_EVAL = """
- Would you resend the papers for order {order}? I need them for my tax return.
- My insurance asks for proof of what the {product} cost. I only have the parcel label.
- need bill for {amount}, {date}
- Is there a page where I can find past invoices, the one from {date} for example?
- The printer ate the only copy I had, and the auditor comes on {day}. Could you let me have another one for the
  {product}?
- The warranty is not the issue yet, but the form in front of me wants a purchase document for {a_product}, and I can't
  find mine.
- I paid {amount} through the app and it never gave me anything I could file.
"""

DISCOUNT_CODE_TRAIN = """
- The code {code} does not work.
- It says {code} has expired, but your email says it is valid until {date}.
- How do I use my voucher for the {product}? I can't see a field for it.
- discount not applied to {order}
- I was promised ten percent off the {product} and had to pay the full {amount}.
- I typed in {code} and the price stayed the same.
- You gave me a birthday voucher. The basket says it cannot be used for {a_product}.
- Can I still get the reduction? I forgot to enter {code} when I bought the {product}.
- Does {code} work for {a_product}?
- My friend {name} invited me and we were both supposed to get {amount} off. Neither of us has.
- The leaflet that came with my {product} offers a fifth off the next order. The till does not know about it.
- {code} invalid, tried 4 times
- The new-customer offer on the {product} is greyed out even though I have never bought anything from you.
- The payment itself went through. But {code} was ignored, so I paid the full {amount}.
- You sent me {code} as an apology for the late parcel. It would be a nicer apology if it worked.
- On {day} the banner said twenty percent off everything. I filled the basket, made a cup of tea, and when I came back
  the price was up again.
- The points I've collected should be worth {amount}, but I don't know how to turn them into money off.
"""

DISCOUNT_CODE_EVAL = """
- My promo is not accepted for the {colour} {product}. Is it excluded?
- {code} gives an error, can you take it off the price by hand?
- voucher rejected at checkout for {product}, says already used
- I have kept your newsletter from {month} only because of the coupon in it, and now the box at the checkout shakes its
  head at me.
- Two people in my office got money off with the same letters. When I enter them, the total is still {amount}.
- I expected to pay less for the {product}, as a student. Where do I enter the proof?
- You advertised three for two in {city}. In the app I'm asked to pay for all three.
"""
