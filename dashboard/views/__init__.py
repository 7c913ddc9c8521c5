"""One file a page, listed in PAGES; the app draws its `draw()`.

A page whose widgets the link keeps on other pages too has `link_choices()`; one that shows the depth's slider has
`SHOWS_DEPTH`; one that draws the training setup itself has `HAS_SETUP`.
"""

# Pages in their order, the first of them first opened, and the question that each answers; the page itself is the file
# of this name here.
PAGES = {
    "Home": "could I train fewer layers?",
    "Analyze": "where does my task happen?",
    "Gains": "what does each layer add?",
    "Decide": "how deep, how fast, on my GPU?",
    "Prove": "does it hold?",
    "Library": "what have we learned?",
    "Estimate": "what would a model take, before I have data?",
    "Present": "how do I show it to a meeting?",
}
# Pages of links from before, by the page that shows the same now.
FORMER_PAGES = {"traces": "Analyze", "plan": "Decide", "validate": "Prove", "compare": "Library"}
