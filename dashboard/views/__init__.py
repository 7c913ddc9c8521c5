"""One file a page, listed in PAGES; the app draws its `draw()`.

A page whose widgets the link keeps on other pages too has `link_choices()`; one that shows the depth's slider has
`SHOWS_DEPTH`, one that may show the objective `shows_objective()`; one whose training setup is of another model than
the open run's has `setup_model()`.
"""

# Pages in their order, the first of them first opened, and the question that each answers; the page itself is the file
# of this name here.
PAGES = {
    "Home": "could I train fewer layers?",
    "Data": "what will it learn from?",
    "Analyze": "where does my task happen?",
    "Decide": "how deep, how fast, on my GPU?",
    "Prove": "does it hold?",
    "Use": "how do I run it?",
    "Library": "what have we learned?",
    "Estimate": "what would a model take, before I have data?",
    "Present": "how do I show it to a meeting?",
}
PATH = ("Data", "Analyze", "Decide", "Prove", "Use")  # to a plan that runs, step by step
# Pages of links from before, by the page that shows the same now.
FORMER_PAGES = {"traces": "Analyze", "gains": "Analyze", "plan": "Decide", "validate": "Prove", "compare": "Library"}
