"""The graph of views that are compared."""

import torch

from openrayzer.components.matchers.view_graph import first_copies, nearest_views, without_copies


def similarity(v: int) -> torch.Tensor:
    """Random positions on a line; closer views are more similar."""
    at = torch.rand(3, v, generator=torch.Generator().manual_seed(v))
    return -(at[:, :, None] - at[:, None]).abs()


def connected(neighbours: torch.Tensor) -> bool:
    v = len(neighbours)
    links = torch.eye(v)
    for view, others in enumerate(neighbours.tolist()):
        links[view, others] = links[others, view] = 1
    return bool((torch.linalg.matrix_power(links, v) > 0).all())


def test_few_views_have_all_others_as_neighbours():
    neighbours = nearest_views(similarity(4), 8)
    expected = torch.tensor([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]).expand(3, 4, 3)
    assert torch.equal(neighbours.sort(dim=2).values, expected)


def test_the_graph_of_many_views_is_connected():
    for v in (5, 12, 30):
        for count in (1, 2, 3):
            for neighbours in nearest_views(similarity(v), count):
                assert connected(neighbours), (v, count)
                assert neighbours.shape == (v, count)


def test_the_nearest_views_are_chosen_besides_the_tree():
    neighbours, nearness = nearest_views(similarity(12), 4), similarity(12)
    for clip in range(3):
        for view in range(12):
            best = nearness[clip, view].topk(4).indices[1:]  # the first is the view itself
            assert len(set(best.tolist()) & set(neighbours[clip, view].tolist())) >= 3


def test_the_graph_follows_the_order_of_the_views():
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    nearness = similarity(12)
    shuffled = nearest_views(nearness[:, order][:, :, order], 3)
    there = torch.zeros(3, 12, 12, dtype=torch.bool).scatter(2, nearest_views(nearness, 3), True)
    again = torch.zeros(3, 12, 12, dtype=torch.bool).scatter(2, shuffled, True)
    assert torch.equal(there[:, order][:, :, order], again)


def test_a_view_without_a_finite_colour_has_no_copy():
    images = torch.full((1, 3, 3, 16, 16), torch.nan)
    assert first_copies(images).tolist() == [[0, 1, 2]]


def test_copies_of_a_view_are_neighbours_only_if_no_other_view_is_left():
    images = torch.rand(1, 8, 3, 16, 16, generator=torch.Generator().manual_seed(0))[:, [0, 1, 1, 2, 0, 3, 4, 5]]
    originals = first_copies(images)
    assert originals.tolist() == [[0, 1, 1, 3, 0, 5, 6, 7]]
    neighbours = nearest_views(without_copies(torch.ones(1, 8, 8), originals), 5)
    for view in (0, 1, 3, 5, 6, 7):
        assert sorted(neighbours[0, view].tolist()) == [other for other in (0, 1, 3, 5, 6, 7) if other != view]
