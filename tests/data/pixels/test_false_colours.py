"""Pictures of maps: near points are red, one scale for a scene, shares are grey."""

import pytest
import torch

from openrayzer.data.pixels.false_colours import as_picture, colour_range

BLUE, RED = [48, 18, 59], [122, 4, 3]
"""The two ends of the colours "turbo"; OpenCV's table may differ by 1."""


def row(*values: float) -> torch.Tensor:
    return torch.tensor(values)[None, None]


def test_near_points_are_red_and_far_points_are_blue():
    depth = row(0.5, 1.0, 2.0, 10.0)
    picture = as_picture("depth", depth, (0.1, 2.0))
    assert picture[0, 0].tolist() == pytest.approx(RED, abs=1)
    assert picture[0, 3].tolist() == pytest.approx(BLUE, abs=1)
    inverted = as_picture("height", row(0.4), (0.0, 1.0))  # 1 / 0.86 lies at 0.4 between 0.1 and 2
    assert torch.equal(as_picture("depth", row(1 / 0.86), (0.1, 2.0)), inverted)


def test_the_scale_of_depth_is_that_of_its_inverse_without_outliers():
    depth = 1 / torch.linspace(0.2, 1.0, 1001)
    assert colour_range("depth", depth.view(1, 1, 1, -1)) == pytest.approx((0.216, 0.984), abs=1e-4)
    depth[:5], depth[-5:] = 1e6, 1e-6
    assert colour_range("depth", depth.view(1, 1, 1, -1)) == pytest.approx((0.216, 0.984), abs=1e-4)


def test_a_depth_has_one_colour_in_all_views_of_a_scene():
    maps = torch.stack([row(1.0, 2.0, 4.0), row(8.0, 2.0, 16.0)])
    between = colour_range("depth", maps)
    first, second = (as_picture("depth", values, between) for values in maps)
    assert torch.equal(first[0, 1], second[0, 1])
    assert not torch.equal(first[0, 1], first[0, 2])


@pytest.mark.parametrize("name", ["confidence", "opacity"])
def test_shares_are_grey_on_the_scale_from_0_to_1(name: str):
    values = row(0.0, 0.2, 1.0)
    between = colour_range(name, values)
    assert between == (0.0, 1.0)
    assert as_picture(name, values, between).tolist() == [[[0] * 3, [51] * 3, [255] * 3]]


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_points_without_a_depth_are_black_and_do_not_change_the_scale(value: float):
    depth = row(1.0, 2.0, 4.0)
    between = colour_range("depth", depth)
    assert colour_range("depth", torch.cat([depth, row(value)], dim=-1)) == between
    assert as_picture("depth", row(value), between).tolist() == [[[0, 0, 0]]]


def test_an_infinite_depth_is_far_and_not_unknown():
    assert as_picture("depth", row(torch.inf), (0.1, 2.0))[0, 0].tolist() == pytest.approx(BLUE, abs=1)


def test_other_maps_show_their_values_and_colour_maps_stay_as_they_are():
    assert colour_range("height", row(*map(float, range(101)))) == pytest.approx((2, 98))
    assert as_picture("height", row(98.0), (2.0, 98.0))[0, 0].tolist() == pytest.approx(RED, abs=1)
    colours = torch.tensor([1.0, 0.0, 0.4])[:, None, None]
    assert as_picture("normals", colours, (0.0, 1.0)).tolist() == [[[255, 0, 102]]]
    with pytest.raises(ValueError, match="1 or 3 channels, got 2"):
        as_picture("flow", torch.zeros(2, 4, 4), (0.0, 1.0))
