"""Model ``taught``: another model whose cameras learn from a solver in training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.geometry.pose_differences import pose_differences
from openrayzer.interfaces import MODELS, CameraSolver, InputError, Matcher, Model
from openrayzer.layers.weight_files import read_state_dict, select_weights
from openrayzer.types import Cameras, Prediction, Scene, Views

_REMEDY = "export a trained rayzer_geometric with the same matcher and solver, or leave out teacher_weights"


@MODELS.register("taught")
class Taught(Model[Scene]):
    """Adds a loss to another model: its relative poses and focal lengths should be those that a solver finds.

    The solver sees the same images and no true camera, so that training stays self-supervised. It has no part in the
    estimates: outside of training, this model is its student. Checkpoints hold the student alone.

    The weight of the loss falls linearly from ``start_weight`` to ``end_weight`` over ``fade_batches`` training
    batches. Then it stays.

    Args:
        student: the model that learns; it must estimate cameras.
        matcher: finds matches for the teacher.
        teacher: finds the cameras. Neither part is trained.
        teacher_weights: model.safetensors of an exported ``rayzer_geometric``, whose matcher and solver teach. By
            default, both keep their initial weights. Only training reads the file.
        start_weight: weight of the loss at the start.
        end_weight: weight after ``fade_batches``.
        fade_batches: number of training batches over which the weight falls.

    Raises:
        InputError: the student needs true cameras, or a number is negative.
    """

    posed, has_losses = False, True
    step: Tensor

    def __init__(
        self,
        *,
        student: Model,
        matcher: Matcher,
        teacher: CameraSolver,
        teacher_weights: str | None = None,
        start_weight: float = 0.01,
        end_weight: float = 0.001,
        fade_batches: int = 1000,
    ) -> None:
        super().__init__()
        if student.posed or student.needs_intrinsics:
            raise InputError(
                f"a solver cannot teach {type(student).__name__}, which needs true cameras; take 'rayzer' or 'rayder'"
            )
        if min(start_weight, end_weight, fade_batches) < 0:
            raise InputError(
                "start_weight, end_weight and fade_batches must be 0 or more, "
                f"got {start_weight}, {end_weight}, {fade_batches}"
            )
        self.student, self.teacher_weights = student, teacher_weights
        self.patch_size = student.patch_size
        self.start_weight, self.end_weight, self.fade_batches = start_weight, end_weight, fade_batches
        self._teacher = (matcher.eval(), teacher.eval())  # a tuple, because weights of modules would be saved
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def estimate(self, images: Float[Tensor, "b v 3 h w"], intrinsics: Float[Tensor, "b v 4"] | None = None) -> Cameras:
        return self.student.estimate(images, intrinsics)

    def reconstruct(
        self, images: Float[Tensor, "b v 3 h w"], cameras: Cameras, index: Int[Tensor, "b v"] | None = None
    ) -> Scene:
        return self.student.reconstruct(images, cameras, index)

    def render(self, scene: Scene, cameras: Cameras) -> Float[Tensor, "b v 3 h w"]:
        return self.student.render(scene, cameras)

    def render_maps(self, scene: Scene, cameras: Cameras) -> Mapping[str, Float[Tensor, "b v _ h w"]]:
        return self.student.render_maps(scene, cameras)

    def locate(self, scene: Scene, *views: Any, **known: Any) -> Cameras:
        return self.student.locate(scene, *views, **known)

    def extend(
        self,
        scene: Scene,
        images: Float[Tensor, "b v 3 h w"],
        cameras: Cameras,
        index: Int[Tensor, "b v"] | None = None,
    ) -> Scene:
        return self.student.extend(scene, images, cameras, index)

    def prepare(self, scene: Scene) -> Scene:
        return self.student.prepare(scene)

    def check_size(self, image_size: tuple[int, int]) -> None:
        self.student.check_size(image_size)

    def check_roles(self, context: Int[Tensor, "b vc"], target: Int[Tensor, "b vt"], scenes: Sequence[str]) -> None:
        self.student.check_roles(context, target, scenes)

    def forward(self, views: Views) -> Prediction:
        """The student's prediction; in training, with the loss ``taught_cameras``."""
        prediction = self.student(views)
        if not self.training:
            return prediction
        wanted, own = self._solved(views.images), prediction.cameras
        difference = pose_differences(own.c2w, wanted.c2w).total()
        zoom = (own.intrinsics[..., :2].log() - wanted.intrinsics[..., :2].log()).abs().mean()
        left = (1 - self.step / max(self.fade_batches, 1)).clamp(min=0)
        weight = self.end_weight + (self.start_weight - self.end_weight) * left
        with torch.no_grad():
            self.step += 1
        losses = dict(prediction.extra_losses) | {"taught_cameras": weight * (difference + 0.2 * zoom)}
        return Prediction(prediction.images, own, extra_losses=losses, extra_images=prediction.extra_images)

    @torch.no_grad()
    def _solved(self, images: Float[Tensor, "b v 3 h w"]) -> Cameras:
        """The teacher's cameras. The first call moves the teacher to the device of the images and reads its weights."""
        matcher, teacher = self._teacher
        if self.teacher_weights is not None:
            path = Path(self.teacher_weights)
            state = read_state_dict(path, remedy=_REMEDY)
            for name, part in (("matcher.", matcher), ("solver.", teacher)):
                of_part = {key.removeprefix(name): value for key, value in state.items() if key.startswith(name)}
                shapes = {key: value.shape for key, value in part.state_dict().items()}
                part.load_state_dict(select_weights(of_part, shapes=shapes, path=path, remedy=_REMEDY))
            self.teacher_weights = None
        for part in self._teacher:
            if any(weight.device != images.device for weight in part.parameters()):
                part.to(images.device)
        images = images.float()
        return teacher(images, matcher(images)).cameras
