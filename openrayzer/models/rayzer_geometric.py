"""Model ``rayzer_geometric``: cameras by matches and bundle adjustment, views by a plane sweep or Gaussians."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.interfaces import (
    MODELS,
    CameraSolver,
    GaussianScene,
    GeometricRenderer,
    ImageRenderer,
    InputError,
    Matcher,
    Matches,
    Model,
    RenderedViews,
    SolvedCameras,
    SurfaceRenderer,
)
from openrayzer.interfaces.model import with_each_view
from openrayzer.types import Cameras, Prediction, Scene, Views


@dataclass(frozen=True)
class ContextScene(Scene):
    """Scenes as the images and cameras of their context views.

    Attributes:
        images: context views in [0, 1].
        cameras: their cameras.
        prepared: tensors that all renderings of the scene share, after ``Model.prepare``; empty before.
    """

    images: Float[Tensor, "b v 3 h w"]
    cameras: Cameras
    prepared: tuple[Tensor, ...] = ()


@MODELS.register("rayzer_geometric")
class RayZerGeometric(Model[ContextScene | GaussianScene]):
    """Self-supervised like RayZer, but it finds cameras by optimisation and renders by projection.

    A matcher finds the points of each view in other views, a solver finds the cameras and depths that explain the
    matches and the pixels, and a renderer reads colours from the context views, or makes Gaussians of them. All three
    have weights. A photometric loss trains them; no true camera is used. The order of the views has no influence.

    With a ``SurfaceRenderer``, a scene consists of Gaussians. The solver then also finds the depths of the context
    views from these views and their cameras alone.

    Args:
        matcher: images to matches.
        solver: matches and images to cameras.
        renderer: context views and cameras to target views, directly ("plane_sweep") or by Gaussians
            ("surface_gaussians").
        matching_loss: weight of the loss that teaches the matcher the places that the solved cameras imply.
        prior_loss: weight of the loss that teaches the solver's priors the depths and focal lengths that it found.
    """

    posed, has_losses = False, True
    order_free_cameras = True

    def __init__(
        self,
        *,
        matcher: Matcher,
        solver: CameraSolver,
        renderer: GeometricRenderer,
        matching_loss: float = 0.002,
        prior_loss: float = 0.01,
    ) -> None:
        super().__init__()
        self.matcher, self.solver, self.renderer = matcher, solver, renderer
        self.matching_loss, self.prior_loss = matching_loss, prior_loss

    def solve(
        self,
        images: Float[Tensor, "b v 3 h w"],
        *,
        known: Cameras | None = None,
        held: Tensor | None = None,
    ) -> tuple[Matches, SolvedCameras]:
        matches = self.matcher(images)
        return matches, self.solver(images, matches, known=known, held=held)

    def estimate(self, images: Float[Tensor, "b v 3 h w"], intrinsics: Float[Tensor, "b v 4"] | None = None) -> Cameras:
        known = None
        if intrinsics is not None:
            known = Cameras(torch.eye(4, device=images.device).expand(*images.shape[:2], 4, 4), intrinsics)
        return self.solve(images, known=known)[1].cameras

    def reconstruct(
        self, images: Float[Tensor, "b v 3 h w"], cameras: Cameras, index: Int[Tensor, "b v"] | None = None
    ) -> ContextScene | GaussianScene:
        image_size = (images.shape[-2], images.shape[-1])
        if not isinstance(self.renderer, SurfaceRenderer):
            return ContextScene(images, cameras, image_size=image_size)
        with torch.no_grad():
            held = torch.ones(images.shape[:2], dtype=torch.bool, device=images.device)
            matches, solved = self.solve(images, known=cameras, held=held)
        rough = [maps.float().unflatten(2, matches.grid) for maps in (solved.inverse_depth, solved.point_agreement)]
        return GaussianScene(self.renderer.gaussians(images, cameras, *rough), image_size=image_size)

    def render(self, scene: ContextScene | GaussianScene, cameras: Cameras) -> Float[Tensor, "b v 3 h w"]:
        return self._rendering(scene, cameras).images

    def render_maps(
        self, scene: ContextScene | GaussianScene, cameras: Cameras
    ) -> Mapping[str, Float[Tensor, "b v _ h w"]]:
        return self._rendering(scene, cameras).maps

    def locate(
        self,
        scene: ContextScene | GaussianScene,
        images: Float[Tensor, "b v 3 h w"],
        cameras: Cameras,
        context_images: Float[Tensor, "b vc 3 h w"],
        *,
        intrinsics: Float[Tensor, "b v 4"] | None = None,
        index: Int[Tensor, "b v"] | None = None,
        context_index: Int[Tensor, "b vc"] | None = None,
    ) -> Cameras:
        """Cameras of further views, each found from the context views. The context keeps its poses and focal length."""
        (b, v), vc = images.shape[:2], context_images.shape[1]
        if intrinsics is None:
            intrinsics = cameras.intrinsics.mean(dim=1, keepdim=True).expand(b, v, 4)
        poses = torch.eye(4, device=images.device).expand(b, v, 4, 4)
        known = Cameras(
            with_each_view(cameras.c2w, poses.to(cameras.c2w)), with_each_view(cameras.intrinsics, intrinsics)
        )
        held = torch.arange(vc + 1, device=images.device) < vc
        _, solved = self.solve(with_each_view(context_images, images), known=known, held=held.expand(b * v, vc + 1))
        c2w, found = solved.cameras.c2w[:, -1], solved.cameras.intrinsics[:, -1]
        return Cameras(c2w.unflatten(0, (b, v)), found.unflatten(0, (b, v)))

    def extend(
        self,
        scene: ContextScene | GaussianScene,
        images: Float[Tensor, "b v 3 h w"],
        cameras: Cameras,
        index: Int[Tensor, "b v"] | None = None,
    ) -> ContextScene | GaussianScene:
        if not isinstance(scene, ContextScene):
            raise InputError(
                "a scene of Gaussians cannot be extended, because their depths follow from all views together; "
                "reconstruct the scene anew from all views"
            )
        self.check_extension(scene, images)
        joined = Cameras(
            torch.cat([scene.cameras.c2w, cameras.c2w], dim=1),
            torch.cat([scene.cameras.intrinsics, cameras.intrinsics], dim=1),
        )
        prepared: tuple[Tensor, ...] = ()
        if scene.prepared:
            later = self._image_renderer.prepare(images)
            prepared = tuple(torch.cat(pair, dim=1) for pair in zip(scene.prepared, later, strict=True))
        return replace(scene, images=torch.cat([scene.images, images], dim=1), cameras=joined, prepared=prepared)

    def prepare(self, scene: ContextScene | GaussianScene) -> ContextScene | GaussianScene:
        if not isinstance(scene, ContextScene) or scene.prepared:
            return scene
        return replace(scene, prepared=self._image_renderer.prepare(scene.images))

    def check_size(self, image_size: tuple[int, int]) -> None:
        if min(image_size) < 16:
            raise InputError(f"images of {image_size[0]} x {image_size[1]} pixels are too small; take 16 or more")

    def forward(self, views: Views) -> Prediction:
        matches, solved = self.solve(views.images)
        scene = self.reconstruct(views.context_images, solved.cameras.select(views.context))
        rendered = self._rendering(scene, solved.cameras.select(views.target))
        if not self.training:
            return Prediction(rendered.images, solved.cameras, extra_images=rendered.maps)
        losses = {
            "matching": self.matching_loss * self.matcher.loss(matches, solved),
            "solver_priors": self.prior_loss * self.solver.loss(solved),
        }
        return Prediction(rendered.images, solved.cameras, extra_losses=losses)

    def _rendering(self, scene: ContextScene | GaussianScene, cameras: Cameras) -> RenderedViews:
        if isinstance(scene, ContextScene):
            return self._image_renderer(scene.images, scene.cameras, cameras, prepared=scene.prepared)
        assert isinstance(self.renderer, SurfaceRenderer)
        return self.renderer(scene.gaussians, cameras, scene.image_size)

    @property
    def _image_renderer(self) -> ImageRenderer:
        assert isinstance(self.renderer, ImageRenderer)
        return self.renderer
