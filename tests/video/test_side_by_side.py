"""The side-by-side picture shows the nearest input and the new view below their captions."""

import numpy as np
import pytest
import torch

from openrayzer.types import Cameras
from openrayzer.video.side_by_side import GAP, LINE, MARK, SideBySide, nearest_views


def test_the_nearest_view_is_nearest_in_angle_and_position(make_cameras):
    views = make_cameras(5)
    order = torch.tensor([[3, 0, 4, 4, 1]])
    assert nearest_views(views.select(order), views).tolist() == order[0].tolist()
    turned = Cameras(torch.eye(4).repeat(1, 2, 1, 1), views.intrinsics[:, :2])
    turned.c2w[0, 1, :3, :3] = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
    assert nearest_views(turned.select(torch.tensor([[1, 0]])), turned).tolist() == [1, 0]  # at one place


@pytest.mark.parametrize("views", [1, 3, 20])
def test_pictures_are_below_their_captions(views: int):
    shades = torch.linspace(0.2, 0.8, views)
    images = shades[None, :, None, None, None].expand(1, views, 3, 64, 96)
    drawing = SideBySide(images, [f"a long name of view {view}" * 9 for view in range(views)], num_frames=9)
    frame = drawing.frame(torch.ones(3, 64, 96) * 0.5, number=0, nearest=views - 1)
    width, height = drawing.size
    assert (width, height) == (384, 256)  # enlarged by a whole factor
    assert frame.shape == (drawing.canvas[1], drawing.canvas[0], 3)
    assert abs(int(frame[LINE + 9, GAP + 9, 0]) - 255 * float(shades[-1])) <= 1
    assert frame[LINE + height - 9, 2 * GAP + width + 9, 0] == 128
    assert np.ptp(frame[:LINE, GAP + width : 2 * GAP + width]) == 0  # captions do not run into each other
    marked = (frame == np.array(MARK, np.uint8)).all(-1)
    assert marked[LINE + height :].any()
    assert not marked[: LINE + height].any()
