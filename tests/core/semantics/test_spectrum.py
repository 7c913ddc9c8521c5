import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from semfreeze_core.semantics import spectrum
from semfreeze_core.semantics.spectrum import (
    layer_matrices,
    noise_edge,
    noise_quartiles,
    signal_to_noise,
    singular_values,
    spectrum_score,
    spectrum_work,
)
from semfreeze_core.sources.models.decoder import Decoder

SHAPES = [(200, 200), (200, 400), (100, 400), (50, 800)]


def _noise(p: int, q: int, seed: int = 0, sigma: float = 0.02) -> torch.Tensor:
    return sigma * torch.randn(p, q, generator=torch.Generator().manual_seed(seed))


def test_noise_quartiles_of_a_square_matrix_are_those_of_the_quarter_circle() -> None:
    for share, x in zip((0.25, 0.75), noise_quartiles(1.0), strict=True):
        cumulative = (x * math.sqrt(4 - x * x) / 2 + 2 * math.asin(x / 2)) / math.pi
        assert cumulative == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize(("p", "q"), SHAPES)
def test_noise_edge_and_quartiles_are_those_of_a_simulation(p: int, q: int) -> None:
    values = singular_values(_noise(p, q, sigma=1.0)) / math.sqrt(q)
    assert values[-1] == pytest.approx(noise_edge(p / q), rel=0.02)
    np.testing.assert_allclose(np.percentile(values, [25, 75]), noise_quartiles(p / q), rtol=0.03)


def test_noise_edge_equals_hand_computed_cases() -> None:
    assert noise_edge(1.0) == 2
    assert noise_edge(0.25) == 1.5


def test_signal_to_noise_equals_a_hand_computed_case() -> None:
    # Four values at each quartile of unit noise, so that sigma is 1 and the edge 2; 3 and 5 lie above it.
    lower, upper = noise_quartiles(1.0)
    singular = np.array([lower] * 4 + [upper] * 4)
    assert signal_to_noise(singular, 1.0) == 0
    singular = np.array([lower] * 40 + [upper] * 40 + [3.0, 5.0])
    assert signal_to_noise(singular, 1.0) == pytest.approx(8 / (40 * (lower + upper)) / 5)


@pytest.mark.parametrize(("p", "q"), SHAPES)
@pytest.mark.parametrize("seed", range(3))
def test_signal_to_noise_of_noise_is_near_0_and_grows_with_a_strong_direction(p: int, q: int, seed: int) -> None:
    noise = _noise(p, q, seed)
    u, v = _noise(p, 1, seed + 10, 1.0), _noise(1, q, seed + 20, 1.0)
    largest = float(singular_values(noise)[-1])
    spiked = noise + 4 * largest * (u / u.norm()) @ (v / v.norm())
    ratios = [signal_to_noise(singular_values(m), p / q) * float(singular_values(m)[-1]) for m in (noise, spiked)]
    assert ratios[0] < 0.03
    assert ratios[1] > ratios[0] + 0.01


def test_signal_to_noise_falls_with_the_matrix_scale() -> None:
    # The ratio has no unit, the largest value it is divided by has that of a weight.
    u, v = _noise(60, 1, 1, 1.0), _noise(1, 90, 2, 1.0)
    matrix = _noise(60, 90) + u @ v
    one, ten = (signal_to_noise(singular_values(m), 60 / 90) for m in (matrix, 10 * matrix))
    assert one == pytest.approx(10 * ten)


def test_signal_to_noise_is_unknown_without_noise() -> None:
    assert math.isnan(signal_to_noise(np.ones(9), 1.0))  # no range, so no value lies below the edge
    assert math.isnan(signal_to_noise(np.zeros(9), 1.0))


@pytest.mark.parametrize("shape", [(20, 30), (30, 20), (25, 25)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_singular_values_equal_those_of_a_decomposition(shape: tuple[int, int], dtype: torch.dtype) -> None:
    matrix = _noise(*shape).to(dtype)
    expected = torch.linalg.svdvals(matrix.double()).flip(0).numpy()
    np.testing.assert_allclose(singular_values(matrix), expected, rtol=1e-6, atol=1e-9)


class _Experts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stack = nn.Parameter(torch.zeros(3, 16, 24))
        self.bias = nn.Parameter(torch.zeros(24))
        self.router = nn.Linear(32, 2)  # two rows are no bulk


def test_layer_matrices_take_stacks_apart_and_leave_small_ones_out() -> None:
    assert [tuple(m.shape) for m in layer_matrices(_Experts())] == [(16, 24)] * 3


@pytest.mark.parametrize(("family", "n_matrices"), [("llama", 7), ("gpt2", 4)])
def test_layer_matrices_are_those_a_token_is_multiplied_with(
    tiny_decoder: Callable[..., Decoder], family: str, n_matrices: int
) -> None:
    assert len(list(layer_matrices(tiny_decoder(family).layers[0]))) == n_matrices


def test_spectrum_work_equals_a_hand_computed_case() -> None:
    assert spectrum_work(nn.ModuleList([_Experts(), _Experts()])) == 2 * 3 * 16 * 16 * (16 + 24)


def _layers(*ranks: int) -> nn.ModuleList:
    """Noise in each layer, and so many directions that stand far out of it, one like the other."""
    layers = nn.ModuleList(nn.Linear(80, 60, bias=False) for _ in ranks)
    for i, (layer, rank) in enumerate(zip(layers, ranks, strict=True)):
        directions = torch.linalg.qr(_noise(60, 60, 50))[0][:, :rank] @ torch.linalg.qr(_noise(80, 80, 60))[0][:rank]
        with torch.no_grad():
            layer.weight.copy_(_noise(60, 80, i) + 10 * directions)
    return layers


def test_spectrum_score_ranks_layers_by_what_stands_out() -> None:
    score = spectrum_score(_layers(1, 4, 12), requested=False)
    assert score.values[0] < score.values[1] < score.values[2]
    assert (score.sample, score.reason, score.replicates) == ("the weights", "", None)


def test_spectrum_score_is_the_mean_over_matrices() -> None:
    one, other = _layers(2, 5)
    both = nn.ModuleList([nn.Sequential(one, other)])
    expected = spectrum_score(nn.ModuleList([one, other]), requested=False).values.mean()
    assert spectrum_score(both, requested=False).values[0] == pytest.approx(expected)


def test_spectrum_score_is_left_out_where_it_takes_long_unless_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spectrum, "_MOST_WORK", 1000)
    left_out = spectrum_score(_layers(0, 3), requested=False)
    assert np.isnan(left_out.values).all()
    assert left_out.reason == "left out, as it takes long: add --scores spectrum"
    assert np.isfinite(spectrum_score(_layers(0, 3), requested=True).values).all()


def test_spectrum_score_names_a_layer_it_cannot_read() -> None:
    layers = _layers(0, 3)
    nn.init.zeros_(layers[1].weight)
    score = spectrum_score(layers, requested=False)
    assert np.isnan(score.values).all()
    assert score.reason == "no matrix of layer 1 has noise and signal"


def test_spectrum_score_tells_its_progress() -> None:
    events = []
    spectrum_score(_layers(0, 3), requested=False, progress=events.append)
    assert [(e.done, e.total) for e in events] == [(0, 2), (1, 2), (2, 2)]
