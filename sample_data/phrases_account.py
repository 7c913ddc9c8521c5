"""Customer messages about orders, memberships and accounts: six intents (see phrases_delivery.py for the format)."""

CANCEL_ORDER_TRAIN = """
- Please cancel order {order}.
- I ordered the wrong {product} by mistake five minutes ago. Can you stop it?
- I don't need the {product} any more. It has not been shipped yet, has it?
- Can I still call off the order for the {product}?
- stop order {order} please, bought it elsewhere
- My son got hold of my phone and ordered {a_product}. Please don't send it.
- You can take the {product} off the packing table, I found one in {city}.
- I pressed "buy" too quickly on the {product}. Is there a way to undo it?
- Kindly withdraw my purchase from this morning. The confirmation number is {order}.
- The delivery date of {date} is too late for me, so I'd rather not have the {product} at all. Please drop the order
  before it goes out.
- Do not ship the {colour} {large}. We measured again and it will not go through the door.
- cancel {product}, not the {other}. both are in order {order}
- I like my {plan} and want to keep it, but the extra {product} I added on {day} should be removed before it is packed.
- There is no "cancel" button next to order {order} any more. Can you do it from your side?
- I placed an order half asleep last night. One {product} was the plan, not eleven. Please scrap the lot and I'll start
  again.
- My boss just told me that the office move is off, so we will not be needing the things we ordered on {day}. Can the
  whole thing be stopped before it leaves?
- I'd like to back out of my purchase of the {product} while the status is still "preparing".
"""

CANCEL_ORDER_EVAL = """
- Is it possible to pull order {order} before the van is loaded?
- Changed my mind about the {product} I bought an hour ago. It still says "processing".
- pls dont send {order}
- The {product} was meant as a surprise, and I have just learned that she already bought one herself. If it is still on
  your shelf, please leave it there.
- I would like to revoke today's order for {a_product}, nothing has been dispatched so far.
- I tapped the one-click button while scrolling. I never meant to buy {a_product}. Please stop it.
- Our flight to {city} leaves before you deliver. There is no point in sending the {product} now.
"""

CANCEL_SUBSCRIPTION_TRAIN = """
- I would like to cancel my {plan}.
- How do I end my {plan}? I cannot find it in the settings.
- Please don't renew the {plan} on {date}.
- stop the {plan} pls
- I only wanted the free trial of the {plan}. Make sure it does not carry on.
- The cupboard is full by now. From {month} on, please send no further boxes.
- I'm leaving. Close my {plan} at the end of the month.
- You take {amount} from me every month for something I no longer use. I'd like that to end.
- I was told I could quit the {plan} at any time. The time is now.
- What is the notice period for the {plan}? I want out.
- Keep order {order}, I do want the {product}, but the {plan} that came with it has to go.
- unsubscribe me from {plan}, not the newsletter
- I am moving to {city} for a year and will not be there to receive anything. Please terminate the {plan}.
- Since the price went up to {amount} a month, the {plan} is not worth it for me. Please take me off it.
- The renewal reminder for {date} came today. I do not wish to go on for another year.
- My late father was signed up for your {plan}. Could you please bring it to an end? I can send papers if necessary.
- Turn off automatic renewal for me before {date}, please. I will let this period run out.
"""

CANCEL_SUBSCRIPTION_EVAL = """
- I have not used my {plan} in {months}. Time to stop, I think.
- Please confirm in writing that my {plan} ends on {date} and will not be extended.
- no more {plan} after this month
- I joined for a friend, we have since fallen out, and now I pay {amount} every month for nothing. Where do I sign off?
- Can I leave the {plan} without losing the {product} I have already ordered?
- The cancel link in the {plan} email just leads to your home page. I would like to be a non-member by {day}.
- I've decided not to continue with the {plan}.
"""

CHANGE_ADDRESS_TRAIN = """
- Please send order {order} to {street} instead.
- I have moved. Can you deliver the {product} to my new flat in {city}?
- I typed the wrong house number. It should be {street}.
- new address: {street}, {city}. order {order}
- Can the {product} go to my office? I'm not home during the day.
- Order {order} has not gone out yet, so could you still update where it is going?
- I don't want to cancel anything. I just need the {product} to go to my parents in {city}.
- My old flat in {city} is still stored as the shipping destination. How do I replace it?
- Autofill put in my ex-girlfriend's street. Please redirect {order} before it gets awkward.
- I forgot to put the flat number. It is number 7, top floor, at {street}.
- We are on holiday until {date}. Can the {product} be brought to our neighbour {name} at {street}?
- Could you reroute my parcel to a pick-up point in {city}?
- can i still change where {order} goes
- I've sold the house since I placed the order on {date}, and the new owners will not know what to do with {a_product}.
  From {day} on I am at {street}.
- The postcode on my order confirmation for {order} is wrong.
- For this order only: deliver to {street}, not to the place saved in my account.
- The app will not let me edit the delivery details of order {order}. The street is right, the town should be {city}.
"""

CHANGE_ADDRESS_EVAL = """
- I'm changing flats on {day} and the {product} is due on the same day. It needs to go to {street}.
- Would you mind sending the {product} to my sister in {city} rather than to me?
- wrong street on {order}, should be {street}
- I just noticed that the {product} is on course for a house I left in {month}.
- You still have my student room on file. I live at {street} now, please correct it before you ship.
- Where the label says {city}, it should say something else. I picked the wrong line from the list when I ordered the
  {product}.
- Nobody can take in parcels at my place this week. Is there a way to have the {colour} {product} dropped at {street}?
"""

PASSWORD_RESET_TRAIN = """
- I forgot my password.
- How can I choose a new password for the app?
- The reset link you sent on {day} has expired.
- I asked for a reset email {days} ago and it never came.
- cant remember my login
- The password I always use no longer seems to be the right one. How do I set a new one?
- I bought a new phone on {day} and have no idea what I once typed to get into my account.
- I'd like to look up order {order}, but I don't know what my sign-in was.
- The link for setting a new password sends me to an empty page.
- Please send me the mail for a new password again. The last one came on {date} and I deleted it.
- My browser used to fill it in for me. After the update on {day} the field is blank and my mind is too.
- The new password must have a symbol, you say. I put in three and it still refuses to save.
- I want to change my password because I used the same one on another site.
- need a new pasword, the old one is gone
- Every time I follow the "forgot?" link I get a code, and the code is rejected.
- My grandmother wrote hers on a note and the note went through the wash. She would like to get back in to order
  {a_product}. What should she do?
- Last time I logged in was in {month}. Which of my dog's names did I use? Please help me start over.
"""

PASSWORD_RESET_EVAL = """
- Can you mail me a link so that I can pick something new to sign in with?
- The secret word I set in {month} has completely left my head.
- forgot pw on {day}, reset mail not arriving
- I wanted to order {a_product}, got to the sign-in page and drew a blank. None of my usual ones work and I'd rather set
  a fresh one.
- Your reset page tells me that the two entries don't match. They do, I copied and pasted them.
- Where in the app do I replace my password? I'd like a stronger one.
- My daughter made my account for me in {city} and did not write anything down, and now I can't log in without her. How
  do I make my own?
"""

ACCOUNT_LOCKED_TRAIN = """
- My account has been locked since {day}.
- It says my account is suspended. I have done nothing wrong.
- I know my password, but the app says access is blocked for security reasons.
- locked out after 3 tries on {day}, let me back in pls
- Too many attempts, it says. Please open my account again.
- Why was my profile deactivated on {day}?
- I got an email about unusual activity from {city} and since then I can't get in. That was me on a business trip.
- My password is correct. I reset it {days} ago and it worked until you froze my account.
- How long does the block last? I want to buy {a_product} before the sale ends.
- "Please contact support to restore access." Here I am.
- I mistyped my code three times with cold fingers at the bus stop, and now the app tells me to wait for a human. Are
  you the human?
- Your system thinks I am a robot and has shut me out. I'm not, I just wanted {a_product}.
- account disabled, order {order} still open, what now
- Somebody in your team needs to lift the hold on my account. I already sent my ID card on {date}.
- My wife and I share one account, and when we both logged in, she from {city} and I from home, you shut it down.
- I can type in my details, but then the page just shows a padlock and the words "restricted until verified".
- It has been {days}. Please unblock me. I can't see my orders, my vouchers or anything.
"""

ACCOUNT_LOCKED_EVAL = """
- I seem to have been banned. Could you tell me why and undo it?
- The right password gets me nothing except a {colour} banner that says "temporarily closed".
- acount frozen since {day}
- My card was stolen in {city}, so the bank told you, and you put a stop on my profile as well. I have a new card now.
  Can you release me?
- What documents do you need to reactivate me? I have been shut out since {date}.
- I was away for {months} and come back to "this user has been disabled". I would like to place an order again.
- Is it a crime to try five times? Please remove the lock so that I can pay for the {product}.
"""

APP_CRASH_TRAIN = """
- The app crashes as soon as I open it.
- Your app closes by itself when I tap on the {product} in my basket.
- Since the update on {day} the app only shows a {colour} screen.
- app {version} keeps freezing on my tablet
- I can't scroll past the first page, everything hangs.
- Every time I open the picture of the {product}, I am thrown back to the home screen of my phone.
- Version {version} is unusable. It shuts down after two seconds.
- I've deleted and reinstalled it twice since {day}. It still quits on start.
- The search stops responding when I type "{product}".
- The website is fine on my laptop, but on the phone nothing loads.
- My login works, my card works, only your app doesn't. It dies on the page of order {order}.
- The camera scan makes my phone restart. I wanted to look up {a_product}.
- screen goes black after tapping pay, have to restart the app
- I was on the train to {city} with nothing else to do and wanted to spend money with you. The little wheel went round
  and round until the whole thing vanished.
- There's a bug in {version}: rotating the phone makes the whole thing fall over.
- It used to run perfectly until you changed the icon. Now I get "has stopped unexpectedly" about ten times a day.
- Could you tell your developers that the wish list empties itself and then the program closes?
"""

APP_CRASH_EVAL = """
- I press the icon, see your {colour} logo for a second, and I am back where I started.
- Is something the matter with {version}? Nothing reacts to my fingers any more.
- app stuck on loading since {day}
- I've got the newest phone in the shop in {city}, the sales clerk swore it could run anything, and then your shopping
  program made it freeze.
- The buttons on the order page do nothing and then the whole thing disappears.
- Each time I add the {product} to my favourites, everything locks up and I have to switch the phone off and on.
- I'd love to track order {order}, but the map makes the app shut itself down.
"""
