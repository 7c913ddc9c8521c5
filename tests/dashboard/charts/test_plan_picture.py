"""The plan as a picture: its size, and the share of the layers that it shows frozen."""

from io import BytesIO

import pytest
from PIL import Image, ImageColor

from semfreeze_dashboard.charts.moving_stack import Meter
from semfreeze_dashboard.charts.plan_picture import SIZE, plan_picture
from semfreeze_dashboard.charts.theme import FROZEN, TRAINED


@pytest.mark.parametrize(("n_layers", "depth"), [(30, 19), (30, 0), (2, 1), (126, 126)])
def test_as_much_is_blue_as_layers_are_frozen(n_layers, depth):
    png = plan_picture("Freeze.", "Costs.", n_layers, depth, [Meter("Freeze", "2 h", "1 h", 0.5)], ["Measured: 日本."])
    picture = Image.open(BytesIO(png)).convert("RGB")
    assert picture.size == SIZE
    row = [picture.getpixel((x, 200)) for x in range(SIZE[0])]
    frozen, trained = (row.count(ImageColor.getrgb(color)) for color in (FROZEN, TRAINED))
    assert frozen / (frozen + trained) == pytest.approx(depth / n_layers, abs=0.02)
