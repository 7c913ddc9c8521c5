"""The layer stack in motion: tokens rise through it, its lower layers freeze, and what that saves shows beside it."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from .theme import FROZEN, GRAY, TRAINED

_HEIGHT, _GAP = 240, 2  # pixels, of the stack and between two layers
_TOKENS = 11
_RISE, _BEGIN, _EACH = 2.4, 1.2, 0.9  # seconds: of a token's way, until the first layer freezes, for all of them

# A visitor who asks for less motion sees how it ends. No script, so nothing has to load, and the page is not drawn
# again for it.
_STYLE = f"""<style>
.sf-moving {{ display: flex; gap: 2.5rem; align-items: center; flex-wrap: wrap }}
.sf-layers {{ position: relative; width: 15rem; height: {_HEIGHT}px; display: flex; flex-direction: column-reverse;
  gap: {_GAP}px }}
.sf-layer {{ flex: 1 1 0; border-radius: 1px; background: {TRAINED} }}
.sf-layer.sf-frozen {{ background: {FROZEN}; animation: sf-freeze 0.5s both }}
.sf-token {{ position: absolute; bottom: 0; width: 7px; height: 7px; border-radius: 50%; background: currentColor;
  opacity: 0; animation: sf-rise {_RISE}s linear 3 }}
.sf-side {{ font-size: 12px; line-height: 20px; opacity: 0.75 }}
.sf-meters {{ flex: 1 1 18rem; display: grid; gap: 0.9rem; max-width: 34rem }}
.sf-meter > div {{ height: 14px; border-radius: 2px; background: {GRAY} }}
.sf-meter.sf-planned > div {{ animation: sf-shrink 1.6s {_BEGIN}s cubic-bezier(0.4, 0, 0.2, 1) both }}
.sf-meter p {{ margin: 0 0 0.15rem; display: flex; justify-content: space-between; gap: 1rem }}
.sf-meter span:last-child {{ font-variant-numeric: tabular-nums }}
@keyframes sf-freeze {{ from {{ background: {TRAINED} }} to {{ background: {FROZEN} }} }}
@keyframes sf-shrink {{ from {{ width: 100% }} }}
@keyframes sf-rise {{ 0% {{ transform: translateY(0); opacity: 0 }} 10%, 90% {{ opacity: 0.8 }}
  100% {{ transform: translateY(-{_HEIGHT - 7}px); opacity: 0 }} }}
@media (prefers-reduced-motion: reduce) {{ .sf-moving * {{ animation: none !important }} }}
</style>"""


@dataclass(frozen=True)
class Meter:
    """One amount that full finetuning and the plan take.

    Attributes:
        name: of the plan's choice, such as "Freeze 19".
        full: full finetuning's amount, in words.
        planned: the plan's.
        share: the plan's over full finetuning's.
    """

    name: str
    full: str
    planned: str
    share: float


def moving_stack_html(n_layers: int, depth: int, meters: Sequence[Meter], note: str, description: str) -> str:
    """The stack as it freezes to a depth, input side below, and a pair of bars for every meter.

    Args:
        n_layers: L, one bar each.
        depth: k, 0..L.
        meters: what is compared.
        note: below them: how the amounts are known.
        description: all of it in words, for screen readers.
    """
    delay = _EACH / max(depth, 1)
    layers = "".join(
        f'<div class="sf-layer{" sf-frozen" if layer < depth else ""}" title="layer {layer}" '
        f'style="animation-delay:{_BEGIN + layer * delay:.2f}s"></div>'
        for layer in range(n_layers)
    )
    tokens = "".join(map(_token, range(_TOKENS)))
    return (
        f'<div class="sf-moving" role="img" aria-label="{escape(description)}">'
        f'<div><div class="sf-side">{n_layers - depth} trained, output side</div>'
        f'<div class="sf-layers">{layers}{tokens}</div>'
        f'<div class="sf-side">{depth} frozen, input side</div></div>'
        f'<div class="sf-meters">{"".join(map(_meter, meters))}<div class="sf-side">{escape(note)}</div></div></div>'
        f"{_STYLE}"
    )


def _token(i: int) -> str:
    """One token's dot; they rise out of step."""
    style = f"left:{100 * (i + 0.5) / _TOKENS:.0f}%;animation-delay:{(i * 7 % _TOKENS) * 0.2:.1f}s"
    return f'<div class="sf-token" style="{style}"></div>'


def _meter(meter: Meter) -> str:
    width = f"width:{100 * min(meter.share, 1):.0f}%"
    return (
        f'<div class="sf-meter"><p><span>Full finetuning</span><span>{escape(meter.full)}</span></p>'
        f'<div style="opacity:0.5"></div></div>'
        f'<div class="sf-meter sf-planned"><p><span>{escape(meter.name)}</span><span>{escape(meter.planned)}</span></p>'
        f'<div style="{width}"></div></div>'
    )
