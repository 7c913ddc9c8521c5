"""The model card is Markdown that a plan's own texts cannot change."""

from huggingface_hub import ModelCard

from semfreeze_core.finetune.train.model_card import model_card
from tests.core.finetune.loaded import load_tiny
from tests.core.finetune.plans import plan_of


def test_model_card_shows_what_a_plan_says_as_it_stands(tmp_path):
    hostile = "[x](javascript:a)\n\n# heading <script> \x1b[2J\u202e"
    plan = plan_of(load_tiny(tmp_path / "model").decoder.model, 2).model_copy(update={"reasons": [hostile]})
    card = ModelCard(model_card(plan, f"Trained on {hostile}."))
    shown = r"\[x\](javascript\:a)  \# heading \<script\> \\x1b\[2J\\u202e"
    assert f"- Rule `{plan.rule}`: {shown}\n" in card.text
    assert f"- Trained on {shown}.\n" in card.text
    assert not {"\x1b", "\u202e"} & set(card.content)
