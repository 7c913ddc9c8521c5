"""The freeze depths that need no analysis: a quarter, half and two thirds of the layers."""


def quarter_depth(n_layers: int) -> int:
    """The depth that is safe where nothing else is known: a quarter of the layers."""
    return n_layers // 4


def half_depth(n_layers: int) -> int:
    """The depth between the two others: half of the layers."""
    return n_layers // 2


def two_thirds_depth(n_layers: int) -> int:
    """The depth that saves much and is a bet: two thirds of the layers."""
    return 2 * n_layers // 3
