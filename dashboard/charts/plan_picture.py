"""The plan as a picture to share: the layers, what freezing them saves, and what was measured of it."""

from collections.abc import Sequence
from functools import cache
from io import BytesIO
from textwrap import wrap

from PIL import Image, ImageDraw, ImageFont

from .moving_stack import Meter
from .theme import FROZEN, GRAY, INK, TRAINED

SIZE = 1200, 630  # pixels; what chats and networks show of a link
_EDGE, _GAP = 56, 4
_STACK_TOP, _STACK_HEIGHT = 176, 84
_METERS_TOP, _METER_STEP, _BAR = 326, 64, 20
_TITLE, _TEXT, _SMALL = 44, 24, 19  # type sizes
_SMALL_LETTERS = 112  # of a line


def plan_picture(
    headline: str, cost: str, n_layers: int, depth: int, meters: Sequence[Meter], lines: Sequence[str]
) -> bytes:
    """A PNG of SIZE.

    Args:
        headline: what the plan does.
        cost: what that is estimated to cost.
        n_layers: L, one cell each.
        depth: k, 0..L.
        meters: what is saved, as beside the moving stack; the first two are drawn.
        lines: what was measured, and of which model and data; as many as there is room for.
    """
    picture = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(picture)
    for i, (line, size) in enumerate(((headline, _TITLE), (cost, _TEXT))):
        draw.text((_EDGE, 44 + 68 * i), _printable(line), INK, _font(size))
    _stack(draw, n_layers, depth)
    wide = (SIZE[0] - 3 * _EDGE) / 2
    for i, meter in enumerate(meters[:2]):
        _meter(draw, meter, _EDGE + i * (wide + _EDGE), wide)
    small = [part for line in lines for part in wrap(_printable(line), _SMALL_LETTERS)][:5]
    for i, line in enumerate(small):
        draw.text((_EDGE, 470 + 25 * i), line, INK, _font(_SMALL))
    draw.text((SIZE[0] - _EDGE, 606), "semfreeze", INK, _font(_SMALL), anchor="rm")
    file = BytesIO()
    picture.save(file, "PNG", optimize=True)
    return file.getvalue()


@cache
def mark() -> Image.Image:
    """The mark of the pages: a few layers, the lower ones frozen."""
    side, step = 64, 16
    picture = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    draw = ImageDraw.Draw(picture)
    for i in range(4):
        draw.rectangle((6, i * step + 3, side - 7, (i + 1) * step - 4), TRAINED if i < 2 else FROZEN)
    return picture


def _stack(draw: ImageDraw.ImageDraw, n_layers: int, depth: int) -> None:
    step = (SIZE[0] - 2 * _EDGE + _GAP) / n_layers
    for layer in range(n_layers):
        left = _EDGE + layer * step
        box = (left, _STACK_TOP, max(left + step - _GAP, left + 1), _STACK_TOP + _STACK_HEIGHT)
        draw.rectangle(box, FROZEN if layer < depth else TRAINED)
    below = _STACK_TOP + _STACK_HEIGHT + 10
    draw.text((_EDGE, below), f"input side: {depth} frozen", INK, _font(_SMALL))
    draw.text((SIZE[0] - _EDGE, below), f"{n_layers - depth} trained, output side", INK, _font(_SMALL), anchor="ra")


def _meter(draw: ImageDraw.ImageDraw, meter: Meter, left: float, wide: float) -> None:
    for i, (name, amount, share, color) in enumerate(
        (("Full finetuning", meter.full, 1.0, GRAY), (meter.name, meter.planned, min(meter.share, 1.0), INK))
    ):
        top = _METERS_TOP + i * _METER_STEP
        draw.text((left, top), name, INK, _font(_TEXT))
        draw.text((left + wide, top), amount, INK, _font(_TEXT), anchor="ra")
        draw.rectangle((left, top + 32, left + max(wide * share, 1), top + 32 + _BAR), color)


def _printable(text: str) -> str:
    """Text in the letters of the font that comes with Pillow."""
    return text.replace("–", "-").encode("latin-1", "replace").decode("latin-1")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
