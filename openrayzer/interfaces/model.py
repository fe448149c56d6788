"""Interface of models. The shape letters are those of ``openrayzer.types``."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Generic

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from openrayzer.geometry.similarity import similarity_between
from openrayzer.interfaces.errors import InputError, UnposedInputError
from openrayzer.types import Cameras, Prediction, SceneKind, Views, select_views


def with_each_view(of_context: Tensor, of_views: Tensor) -> Tensor:
    """Lists of the context and one further view: (b, vc, ...) and (b, v, ...) to (b * v, vc + 1, ...)."""
    repeated = of_context[:, None].expand(*of_views.shape[:2], *of_context.shape[1:])
    return torch.cat([repeated, of_views[:, :, None]], dim=2).flatten(0, 1)


class Model(nn.Module, ABC, Generic[SceneKind]):
    """Three functions: images -> cameras, images + cameras -> scene, scene + cameras -> images.

    A model must define the three abstract methods: ``estimate``, ``reconstruct`` and ``render``. The other methods have
    defaults. ``class MyModel(Model[MyScene])`` names the class of the model's scenes, see ``openrayzer.types.Scene``.

    Attributes:
        posed: whether the model needs true cameras. Such a model cannot ``estimate``.
        order_free_cameras: whether the order of the views has no influence on their estimated cameras, up to rounding
            and the choice of the world frame. The contract tests check it.
        locates_in_scene: whether the model reconstructs a scene without poses, and then finds the camera of every view,
            context or target, from its own image in this scene. ``cameras_of`` does so with the context views, so no
            target has influence on another camera.
        has_losses: whether ``forward`` adds losses in training, which an objective that does not call it leaves out.
        needs_intrinsics: whether ``estimate`` needs the true intrinsics.
        patch_size: both image sides must be multiples of this number of pixels; 1 for a model without patches.
    """

    posed: ClassVar[bool]
    order_free_cameras: ClassVar[bool] = False
    locates_in_scene: ClassVar[bool] = False
    has_losses: bool = False
    needs_intrinsics: bool = False
    patch_size: int = 1

    def __init__(self) -> None:
        super().__init__()

    @abstractmethod
    def estimate(self, images: Float[Tensor, "b v 3 h w"], intrinsics: Float[Tensor, "b v 4"] | None = None) -> Cameras:
        """Cameras of any number of views, in a world frame that the model chooses.

        Args:
            images: views of one scene per batch element, in [0, 1].
            intrinsics: true intrinsics, which replace the estimated ones.

        Raises:
            UnposedInputError: the model is ``posed``, or it needs intrinsics and there are none.
        """

    @abstractmethod
    def reconstruct(
        self, images: Float[Tensor, "b v 3 h w"], cameras: Cameras, index: Int[Tensor, "b v"] | None = None
    ) -> SceneKind:
        """The scene that the context views show. Callers reconstruct a scene once and render it many times.

        Args:
            images: the context views, in [0, 1].
            cameras: their cameras.
            index: positions of the context views in the list of views that ``estimate`` took; 0, 1, 2, ... by default.
                Some position encodings need them.
        """

    @abstractmethod
    def render(self, scene: SceneKind, cameras: Cameras) -> Float[Tensor, "b v 3 h w"]:
        """Images of the scene from the given cameras. Views do not influence each other."""

    def render_maps(self, scene: SceneKind, cameras: Cameras) -> Mapping[str, Float[Tensor, "b v _ h w"]]:
        """Further maps of the rendered views by name, such as depth or opacity; none by default.

        Maps have 1 or 3 channels. Sample pictures, reports and videos show them. Three names have a meaning: "depth" is
        the distance along the optical axis in the unit of length of the cameras, "confidence" is the reliability of
        the depth in [0, 1], and "opacity" is the share in [0, 1] of the colour that comes from the scene.
        """
        return {}

    def locate(
        self,
        scene: SceneKind,
        images: Float[Tensor, "b v 3 h w"],
        cameras: Cameras,
        context_images: Float[Tensor, "b vc 3 h w"],
        *,
        intrinsics: Float[Tensor, "b v 4"] | None = None,
        index: Int[Tensor, "b v"] | None = None,
        context_index: Int[Tensor, "b vc"] | None = None,
    ) -> Cameras:
        """Cameras of further views in the world frame of a scene. Views do not influence each other.

        The default estimates the cameras of each view together with the context views. It then applies the similarity
        transform that maps the new poses of the context onto ``cameras``. A model that finds a camera from a scene
        and an image overrides this method.

        Args:
            scene: reconstructed from the context views; the default does not use it.
            images: the views to locate.
            cameras: cameras of the context views, in the frame of ``scene``.
            context_images: the context views.
            intrinsics: true intrinsics of ``images``, for a model that needs them.
            index: positions of ``images`` in the clip. The default sorts the views by position, because an estimate
                may depend on their order. Without positions, each view comes after the context views.
            context_index: positions of the context views in the clip.

        Returns:
            One camera for each of ``images``.

        Raises:
            UnposedInputError: as ``estimate``.
        """
        (b, v), vc = images.shape[:2], context_images.shape[1]
        if index is None or context_index is None:
            context_index = torch.arange(vc, device=images.device).expand(b, vc)
            index = context_index.new_full((b, v), vc)

        order = with_each_view(context_index, index).argsort(dim=1, stable=True)
        known = None if intrinsics is None else select_views(with_each_view(cameras.intrinsics, intrinsics), order)
        seen = self.estimate(select_views(with_each_view(context_images, images), order), known).select(
            order.argsort(dim=1)
        )
        poses = seen.c2w.double()
        fixed = cameras.c2w.double()[:, None].expand(b, v, vc, 4, 4).flatten(0, 1)
        located = similarity_between(poses[:, :-1], fixed).poses(poses[:, -1:])
        shape = (b, v, -1)
        return Cameras(
            located.to(cameras.c2w.dtype).unflatten(0, (b, v))[:, :, 0], seen.intrinsics[:, -1].reshape(shape)
        )

    def extend(
        self,
        scene: SceneKind,
        images: Float[Tensor, "b v 3 h w"],
        cameras: Cameras,
        index: Int[Tensor, "b v"] | None = None,
    ) -> SceneKind:
        """The scene with further context views. Only the new views cost time.

        The result equals ``reconstruct`` of all views up to rounding. So a model can only extend if its context views
        do not attend to later views. The default raises an error. If ``scene`` is prepared, so is the result.

        Args:
            scene: reconstructed from the earlier views.
            images: further context views, of the same size.
            cameras: their cameras, in the world frame of ``scene``.
            index: their positions, as in ``reconstruct``; by default, they follow the earlier views.

        Raises:
            InputError: the model cannot extend a scene, or the images do not fit the scene.
        """
        raise InputError(
            f"{type(self).__name__} cannot add views to a scene, because all its views attend to each other; "
            "reconstruct the scene anew from all views"
        )

    def prepare(self, scene: SceneKind) -> SceneKind:
        """The same scene with tensors that all calls of ``render`` share. Call it once before many calls of ``render``.

        With or without it, ``render`` returns the same images. The default returns ``scene``.
        """
        return scene

    def check_size(self, image_size: tuple[int, int]) -> None:
        """Refuse images of a size that the model cannot take: by default, if ``patch_size`` does not divide both sides.

        Args:
            image_size: height and width in pixels.

        Raises:
            InputError: the size does not fit; the message gives a size that fits.
        """
        if any(side % self.patch_size for side in image_size):
            height, width = (max(1, round(side / self.patch_size)) * self.patch_size for side in image_size)
            raise InputError(
                f"images of {image_size[0]} x {image_size[1]} pixels (height x width) do not fit the model: both sides "
                f"must be multiples of {self.patch_size}, e.g. {height} {width}"
            )

    def check_extension(self, scene: SceneKind, images: Float[Tensor, "b v 3 h w"]) -> None:
        """Refuse images that cannot extend ``scene``.

        Raises:
            InputError: the size of the images or the number of scenes differs.
        """
        size = (images.shape[-2], images.shape[-1])
        if size != scene.image_size:
            height, width = scene.image_size
            raise InputError(
                f"the scene has images of {height} x {width} pixels, the new images have {size[0]} x {size[1]}"
            )
        if images.shape[0] != scene.batch_size:
            raise InputError(
                f"there are new images of {images.shape[0]} scenes for the extension of {scene.batch_size} scenes"
            )

    def check_sharing(self, processes: int) -> None:
        """Refuse to divide the views of a clip among processes in training; by default, refuse always.

        A model that can divide views does so in its methods: each process calls them with all views and gets all
        cameras and images (``layers.view_shares``).

        Args:
            processes: number of processes that share each clip, 2 or more.

        Raises:
            InputError: the model or one of its parts cannot divide views; the message names it.
        """
        raise InputError(f"{type(self).__name__} cannot divide the views of a clip among processes; 1 would work")

    def check_roles(self, context: Int[Tensor, "b vc"], target: Int[Tensor, "b vt"], scenes: Sequence[str]) -> None:
        """Refuse clips whose context and target views do not suit training; by default, accept all.

        Training calls it on the CPU, before it moves a batch to a GPU.

        Args:
            context: positions of the context views.
            target: positions of the target views.
            scenes: names of the scenes of the batch.

        Raises:
            InputError: a clip does not suit training; the message names its views and a remedy.
        """

    def forward(self, views: Views) -> Prediction:
        """Estimate cameras, reconstruct the scene from the context views, render the target views.

        Training differentiates this function. In evaluation mode, the prediction includes ``render_maps``.

        Raises:
            UnposedInputError: as ``cameras_of``.
        """
        return self.predict(views, self.cameras_of(views))

    def predict(self, views: Views, cameras: Cameras) -> Prediction:
        """The part of ``forward`` after the estimate of the cameras, with any cameras of all views.

        Args:
            views: the views; the model does not read their true cameras.
            cameras: their cameras, in a frame and a unit of length as in the training of the model.
        """
        scene = self.reconstruct(views.context_images, cameras.select(views.context), views.context)
        targets = cameras.select(views.target)
        images = self.render(scene, targets)
        return Prediction(images, cameras, extra_images={} if self.training else self.render_maps(scene, targets))

    def cameras_of(self, views: Views) -> Cameras:
        """Cameras of all views: the true ones for a posed model, otherwise estimated from all images together, or as
        ``locates_in_scene`` says.

        Raises:
            UnposedInputError: the model needs poses or intrinsics, and ``views`` has no cameras.
        """
        if self.posed:
            return self._known_cameras(views, "camera poses")
        if self.needs_intrinsics:
            return self.estimate(views.images, self._known_cameras(views, "intrinsics").intrinsics)
        return self.estimate(views.images)

    def _known_cameras(self, views: Views, what: str) -> Cameras:
        if views.cameras is None:
            raise UnposedInputError(f"{type(self).__name__} needs {what}, and {views.scenes[0]!r} has none")
        return views.cameras
