"""What a plan rests on as a mark: an outline where it is estimated, hatched where checked, solid where measured."""

from html import escape

from semfreeze_core.plan.document import Badge

_MARK = "padding:1px 9px;border:1px solid currentColor;border-radius:10px;white-space:nowrap"
_HATCHED = (
    "repeating-linear-gradient(135deg, transparent 0 5px, color-mix(in srgb, currentColor 22%, transparent) 5px 7px)"
)
_GROUNDS: dict[Badge, str] = {"estimated": "none", "checked": _HATCHED, "measured": "currentColor"}


def badge_html(badge: Badge, text: str) -> str:
    """The mark, and beside it what it means.

    Args:
        badge: of the plan.
        text: in words.
    """
    turned = "filter:invert(1)" if badge == "measured" else ""  # the page's ink turned over, on a ground of that ink
    word = f'<span style="{turned}">{badge}</span>'
    return (
        '<div style="font-size:14px;line-height:22px">'
        f'<span style="{_MARK};background:{_GROUNDS[badge]};margin-right:6px">{word}</span>{escape(text)}</div>'
    )
