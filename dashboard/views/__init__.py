"""One file a page, listed in PAGES; the app draws its `draw()`.

A page whose widgets the link keeps on other pages too has `link_choices()`; one that shows the depth's slider has
`SHOWS_DEPTH`; one that draws the training setup itself has `HAS_SETUP`.
"""

# Pages after Start, in their order, and what each is for; the page itself is the file of this name here.
PAGES = {
    "Estimate": "see what finetuning a model takes on your GPU, before you have data",
    "Traces": "see the hidden states move toward the target token, layer by layer",
    "Gains": "see what each layer contributes, with its controls and other papers' scores",
    "Plan": "choose a freeze depth by its cost and coverage, and export the plan",
    "Validate": "see what short real finetunes measured, or start one",
    "Compare": "compare the run with others, and manage your runs",
    "Present": "show it to a meeting, in large type and with arrow keys",
}
