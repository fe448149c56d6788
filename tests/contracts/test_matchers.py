"""What every matcher promises."""

import pytest
import torch
from painted_room import painted_rooms
from small import names

from openrayzer.interfaces import CAMERA_SOLVERS, MATCHERS, Matches

EVERY_MATCHER = pytest.mark.parametrize("name", names(MATCHERS))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Two clips of four views, 40 x 48 pixels."""
    return painted_rooms(2, image_size=(40, 48), num_views=4).images


def by_pair(matches: Matches, values: torch.Tensor) -> dict[tuple[int, int, int], torch.Tensor]:
    """Values (b, v, k, ...) by clip, view and neighbour."""
    b, v, k = matches.neighbours.shape
    return {
        (clip, view, int(matches.neighbours[clip, view, entry])): values[clip, view, entry]
        for clip in range(b)
        for view in range(v)
        for entry in range(k)
    }


@EVERY_MATCHER
@pytest.mark.parametrize("num_views", [1, 2, 4])
def test_each_point_has_a_place_and_a_weight_in_other_views(small, name, images, num_views):
    matches = small(MATCHERS, name).eval()(images[:, :num_views])
    n, k = matches.grid[0] * matches.grid[1], matches.neighbours.shape[2]
    assert matches.points.shape == (n, 2)
    assert matches.places.shape == (2, num_views, k, n, 2)
    assert matches.weights.shape == (2, num_views, k, n)
    assert k == 0 if num_views == 1 else k > 0
    assert (matches.neighbours != torch.arange(num_views)[:, None]).all()
    assert ((matches.weights >= 0) & (matches.weights <= 1)).all()
    assert matches.places.isfinite().all()


@EVERY_MATCHER
@torch.no_grad()
def test_the_order_of_the_views_does_not_matter(small, name, images):
    matcher, order = small(MATCHERS, name).eval(), [2, 0, 3, 1]
    matches, shuffled = matcher(images), matcher(images[:, order])
    found, again = by_pair(matches, matches.places), by_pair(shuffled, shuffled.places)
    for (clip, view, neighbour), places in again.items():
        torch.testing.assert_close(places, found[clip, order[view], order[neighbour]], atol=1e-4, rtol=0)


@EVERY_MATCHER
@torch.no_grad()
def test_batch_elements_are_independent(small, name, images):
    matcher = small(MATCHERS, name).eval()
    together, alone = matcher(images), matcher(images[1:])
    torch.testing.assert_close(together.places[1:], alone.places, atol=1e-4, rtol=0)
    torch.testing.assert_close(together.weights[1:], alone.weights, atol=1e-4, rtol=0)


@EVERY_MATCHER
def test_its_loss_is_a_finite_number_and_matches_have_no_gradients(small, name, images):
    matcher, solver = small(MATCHERS, name).train(), small(CAMERA_SOLVERS, "bundle_adjustment").eval()
    matches = matcher(images)
    with torch.no_grad():
        solved = solver(images, matches)
    loss = matcher.loss(matches, solved)
    assert loss.shape == ()
    assert loss.isfinite()
    assert not matches.places.requires_grad
    assert not matches.weights.requires_grad
