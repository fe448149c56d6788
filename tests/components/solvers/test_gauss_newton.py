"""The equations of a Gauss-Newton step, compared with automatic derivatives and with a dense solution."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from openrayzer.components.solvers.gauss_newton import Evidence, Priors, normal_equations, step
from openrayzer.components.solvers.projection import Bundle, Lenses, project
from openrayzer.geometry.rotations import so3_exp

B, V, N = 2, 4, 5
NEIGHBOURS = torch.tensor([[[1, 2], [0, 3], [3, 0], [1, 2]], [[2, 3], [3, 0], [1, 3], [0, 1]]])


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def bundle() -> Bundle:
    rotation = so3_exp(0.1 * random(B, V, 3, seed=1))
    return Bundle(rotation, 0.2 * random(B, V, 3, seed=2), 1 + 0.2 * random(B, V, N, seed=3), 0.1 * random(B, seed=4))


@pytest.fixture
def lens() -> Lenses:
    return Lenses(1 + 0.1 * random(B, V, 2, seed=5).abs(), 0.05 * random(B, V, 2, seed=6))


POINTS = 0.3 * random(N, 2, seed=7)


def moved(bundle: Bundle, unknowns: Tensor) -> Bundle:
    """The bundle after small changes of poses (6 v), depths (v n) and log focal length (1) of each scene."""
    twists, depths, focal = unknowns.split([6 * V, V * N, 1], dim=1)
    twists = twists.unflatten(1, (V, 6))
    rotation = so3_exp(twists[..., :3])
    translation = (rotation @ bundle.translation[..., None])[..., 0] + twists[..., 3:]
    depths = bundle.inverse_depth + depths.unflatten(1, (V, N))
    return Bundle(rotation @ bundle.rotation, translation, depths, bundle.log_focal + focal[:, 0])


def test_a_step_is_the_dense_gauss_newton_step_of_all_unknowns(bundle, lens):
    wanted = project(bundle, lens, POINTS, NEIGHBOURS).point + 0.01 * random(B, V, 2, N, 2, seed=8)
    weights = random(B, V, 2, N, seed=9).abs()
    priors = Priors(
        torch.ones(B, V, N, dtype=torch.float64), torch.full((B,), 0.3, dtype=torch.float64),
        torch.zeros(B, dtype=torch.float64), torch.full((B,), 0.2, dtype=torch.float64),
        torch.full((B, V), 0.1, dtype=torch.float64),
    )  # fmt: skip

    def residuals(unknowns: Tensor) -> Tensor:
        changed = moved(bundle, unknowns)
        miss = (wanted - project(changed, lens, POINTS, NEIGHBOURS).point) * weights[..., None].sqrt()
        of_depth = priors.depth_information[:, None, None].sqrt() * (priors.inverse_depth - changed.inverse_depth)
        of_focal = priors.focal_information.sqrt() * (priors.log_focal - changed.log_focal)
        of_poses = -priors.damping.repeat_interleave(6, 1).sqrt() * unknowns[:, : 6 * V]
        return torch.cat([miss.flatten(1), of_depth.flatten(1), of_focal[:, None], of_poses], dim=1)

    start = torch.zeros(B, 6 * V + V * N + 1, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda unknowns: residuals(unknowns).sum(0), start).transpose(0, 1)
    dense = torch.linalg.lstsq(-jacobian, residuals(start)[..., None]).solution[..., 0]

    seen = project(bundle, lens, POINTS, NEIGHBOURS)
    miss = wanted - seen.point
    evidence = Evidence(weights, 0 * weights, weights, weights * miss[..., 0], weights * miss[..., 1])
    found, expected = step(bundle, normal_equations(bundle, seen, evidence, priors, NEIGHBOURS)), moved(bundle, dense)
    for name in ("rotation", "translation", "inverse_depth", "log_focal"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=1e-9, rtol=1e-7)


def test_held_unknowns_keep_their_values(bundle, lens):
    seen = project(bundle, lens, POINTS, NEIGHBOURS)
    weights = torch.ones(B, V, 2, N, dtype=torch.float64)
    held = torch.zeros(B, V, dtype=torch.float64) + 1e-3
    held[:, 1:] = 1e9
    priors = Priors(
        bundle.inverse_depth, torch.full((B,), 0.1, dtype=torch.float64), bundle.log_focal,
        torch.full((B,), 1e9, dtype=torch.float64), held,
    )  # fmt: skip
    evidence = Evidence(weights, 0 * weights, weights, 0.01 * weights, 0.02 * weights)
    after = step(bundle, normal_equations(bundle, seen, evidence, priors, NEIGHBOURS))
    torch.testing.assert_close(after.translation[:, 1:], bundle.translation[:, 1:], atol=1e-7, rtol=0)
    torch.testing.assert_close(after.log_focal, bundle.log_focal, atol=1e-7, rtol=0)
    assert (after.translation[:, 0] - bundle.translation[:, 0]).norm(dim=-1).min() > 1e-4


def test_a_common_scale_of_translations_and_depths_changes_no_projection(bundle, lens):
    larger = replace(bundle, translation=2 * bundle.translation, inverse_depth=bundle.inverse_depth / 2)
    first, second = (project(given, lens, POINTS, NEIGHBOURS).point for given in (bundle, larger))
    torch.testing.assert_close(first, second)
