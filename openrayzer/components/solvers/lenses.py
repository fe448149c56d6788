"""From cameras to the unknowns of bundle adjustment, and back."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from openrayzer.components.solvers.gauss_newton import Priors
from openrayzer.components.solvers.projection import Bundle, Lenses
from openrayzer.geometry.rotations import pose_from
from openrayzer.interfaces import Matches, SolvedCameras
from openrayzer.layers.image_sampling import extent_of
from openrayzer.types import Cameras, select_views


def lens_of(
    image_size: tuple[int, int], known: Cameras | None, log_focal: Float[Tensor, "1"], views: tuple[int, int]
) -> tuple[Lenses, Float[Tensor, " b"]]:
    """Lenses up to a common focal length, and the logarithm of the expected focal length of each scene.

    Args:
        image_size: height and width in pixels.
        known: cameras whose intrinsics the lenses have; the expected factor of their focal lengths is 1.
        log_focal: without known cameras, the logarithm of the expected focal length.
        views: numbers of scenes and of views.
    """
    if known is None:
        ones = torch.ones(*views, 2, dtype=torch.float64, device=log_focal.device)
        return Lenses(ones, 0 * ones), log_focal.double().expand(views[0])
    focal, centre = known.intrinsics.double().split(2, dim=-1)
    scale = extent_of(image_size, focal)
    return Lenses(focal * scale, (centre - 0.5) * scale), focal.new_zeros(views[0])


def first_bundle(priors: Priors, matches: Matches, known: Cameras | None, held: Bool[Tensor, "b v"]) -> Bundle:
    """Equal poses of all views; or, where some views are held, the pose of the held view with the strongest matches."""
    b, v = held.shape
    bundle = Bundle(
        torch.eye(3, dtype=torch.float64, device=held.device).expand(b, v, 3, 3),
        torch.zeros(b, v, 3, dtype=torch.float64, device=held.device),
        priors.inverse_depth.detach(), priors.log_focal.detach(),
    )  # fmt: skip
    if known is None:
        return bundle
    rotation, translation = _world_to_camera(known.c2w)
    return with_poses_of(replace(bundle, rotation=rotation, translation=translation), held, matches, instead=bundle)


def with_poses_of(bundle: Bundle, chosen: Bool[Tensor, "b v"], matches: Matches, *, instead: Bundle) -> Bundle:
    """The bundle in which each view that is not chosen has the pose of the chosen view with the strongest matches.

    A scene without chosen views has the poses of ``instead``.
    """
    b, v = chosen.shape
    strength = bundle.translation.new_zeros(b, v, v)
    strength = strength.scatter(2, matches.neighbours, matches.weights.to(strength.dtype).sum(-1))
    source = torch.where(chosen[:, None], strength, -1.0).argmax(dim=2)
    source = torch.where(chosen, torch.arange(v, device=chosen.device), source)
    some = chosen.any(1)[:, None, None]
    return replace(
        bundle,
        rotation=torch.where(some[..., None], select_views(bundle.rotation, source), instead.rotation),
        translation=torch.where(some, select_views(bundle.translation, source), instead.translation),
    )


def _world_to_camera(c2w: Float[Tensor, "b v 4 4"]) -> tuple[Float[Tensor, "b v 3 3"], Float[Tensor, "b v 3"]]:
    """Rotations and translations in float64."""
    rotation = c2w[..., :3, :3].double().mT
    return rotation, -(rotation @ c2w[..., :3, 3:].double())[..., 0]


def bundle_of(solved: SolvedCameras) -> Bundle:
    """The bundle of solved cameras, without gradients."""
    rotation, translation = _world_to_camera(solved.cameras.c2w.detach())
    return Bundle(rotation, translation, solved.inverse_depth.double(), solved.log_focal.double())


def poses_of(bundle: Bundle) -> Float[Tensor, "b v 4 4"]:
    """Poses, camera to world, in the precision of the bundle."""
    inverse = bundle.rotation.mT
    return pose_from(inverse, -(inverse @ bundle.translation[..., None])[..., 0])


def cameras_of(bundle: Bundle, lens: Lenses, image_size: tuple[int, int], known: Cameras | None) -> Cameras:
    """The cameras of a bundle in float32; known intrinsics stay as they are."""
    c2w = poses_of(bundle).float()
    if known is not None:
        return Cameras(c2w, known.intrinsics.float())
    scale = extent_of(image_size, lens.focal)
    focal = lens.focal * bundle.log_focal.exp()[:, None, None] / scale
    return Cameras(c2w, torch.cat([focal, lens.centre / scale + 0.5], dim=-1).float())
