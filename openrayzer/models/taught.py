"""Model ``taught``: another model whose cameras learn from a solver in training."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from openrayzer.geometry.pose_differences import pose_differences
from openrayzer.geometry.similarity import motion_between, similarity_between
from openrayzer.interfaces import MODELS, CameraSolver, InputError, Matcher, Model
from openrayzer.layers.weight_files import read_state_dict, select_weights
from openrayzer.types import Cameras, Prediction, Scene, Views

_TINY = 1e-4
"""Distances round off below it, so that their gradients are finite."""
_REMEDY = "export a trained rayzer_geometric with the same matcher and solver, or leave out teacher_weights"


@MODELS.register("taught")
class Taught(Model[Scene]):
    """Adds a loss to another model: its relative poses and focal lengths should be those that a solver finds.

    The solver sees the same images and no true camera, so that training stays self-supervised. Outside of training,
    this model is its student, whose cameras ``finish_steps`` of the solver may refine. Without such steps, the solver
    has no part in the estimates, and checkpoints hold the student alone.

    The weight of the loss falls linearly from ``start_weight`` to ``end_weight`` over ``fade_batches`` training
    batches. Then it stays. With ``end_weight`` 0, the teacher stops there, and only the losses of the images remain.

    Args:
        student: the model that learns; it must estimate cameras.
        matcher: finds matches for the teacher.
        teacher: finds the cameras. Neither part is trained.
        teacher_weights: model.safetensors of an exported ``rayzer_geometric``, whose matcher and solver teach. By
            default, both keep their initial weights. Only training reads the file.
        start_weight: weight of the loss at the start.
        end_weight: weight after ``fade_batches``.
        fade_batches: number of training batches over which the weight falls.
        forced_batches: number of training batches over which the share of scenes whose views are rendered with the
            teacher's cameras falls linearly from 1 to 0. With 0, views are rendered with the student's cameras. Above
            0, the student also learns the teacher's unit of length.
        lessons: number of earlier batches whose cameras the student estimates once more in each training batch. The
            teacher takes most of the time, and a lesson needs neither the teacher nor a render.
        remembered_batches: number of the last batches from which lessons come. A resumed run begins without any.
        finish_steps: number of photometric steps of the teacher that refine estimates, 0 to 6.

    Raises:
        InputError: the student needs true cameras, or a number is out of range.
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
        forced_batches: int = 0,
        lessons: int = 0,
        remembered_batches: int = 64,
        finish_steps: int = 0,
    ) -> None:
        super().__init__()
        if student.posed or student.needs_intrinsics:
            raise InputError(
                f"a solver cannot teach {type(student).__name__}, which needs true cameras; take 'rayzer' or 'rayder'"
            )
        least = min(start_weight, end_weight, fade_batches, forced_batches, lessons, remembered_batches - 1)
        if least < 0 or not 0 <= finish_steps <= 6:
            raise InputError(
                "start_weight, end_weight, fade_batches, forced_batches and lessons must be 0 or more, "
                f"remembered_batches 1 or more, and finish_steps 0 to 6, got {start_weight}, {end_weight}, "
                f"{fade_batches}, {forced_batches}, {lessons}, {remembered_batches} and {finish_steps}"
            )
        self.student, self.teacher_weights = student, teacher_weights
        self.patch_size = student.patch_size
        self.start_weight, self.end_weight, self.fade_batches = start_weight, end_weight, fade_batches
        self.forced_batches, self.lessons, self.finish_steps = forced_batches, lessons, finish_steps
        self._lessons: deque[tuple[Tensor, Cameras]] = deque(maxlen=remembered_batches)
        if finish_steps:  # estimates need these parts, so that checkpoints must have their weights
            self.matcher, self.teacher = matcher, teacher
        # A tuple, because weights of modules would be saved.
        self._teacher = (matcher.requires_grad_(False).eval(), teacher.requires_grad_(False).eval())
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self._batch = 0  # equals ``step``, without a wait for a GPU
        self.register_load_state_dict_post_hook(Taught._resume)

    def train(self, mode: bool = True) -> "Taught":
        super().train(mode)
        for part in self._teacher:
            part.eval()
        return self

    def check_sharing(self, processes: int) -> None:
        self.student.check_sharing(processes)

    def estimate(self, images: Float[Tensor, "b v 3 h w"], intrinsics: Float[Tensor, "b v 4"] | None = None) -> Cameras:
        cameras = self.student.estimate(images, intrinsics)
        if not self.finish_steps or self.training:
            return cameras
        (matcher, teacher), images = self._teacher, images.float()
        matches, known = matcher(images), None if intrinsics is None else cameras
        solved = teacher.depths_of(images, matches, cameras, known=known)
        refined = teacher.refine(images, matches, solved, steps=self.finish_steps, known=known).cameras
        # A student that is rendered with the teacher's cameras knows their unit of length. Others have their own.
        frame = motion_between if self.forced_batches else similarity_between
        return frame(refined.c2w, cameras.c2w).cameras(refined)

    def reconstruct(
        self, images: Float[Tensor, "b v 3 h w"], cameras: Cameras, index: Int[Tensor, "b v"] | None = None
    ) -> Scene:
        return self.student.reconstruct(images, cameras, index)

    def render(self, scene: Scene, cameras: Cameras) -> Float[Tensor, "b v 3 h w"]:
        return self.student.render(scene, cameras)

    def render_maps(self, scene: Scene, cameras: Cameras) -> Mapping[str, Float[Tensor, "b v _ h w"]]:
        return self.student.render_maps(scene, cameras)

    def locate(
        self,
        scene: Scene,
        images: Float[Tensor, "b v 3 h w"],
        cameras: Cameras,
        context_images: Float[Tensor, "b vc 3 h w"],
        *,
        intrinsics: Float[Tensor, "b v 4"] | None = None,
        **places: Any,
    ) -> Cameras:
        """As the student does; with ``finish_steps``, by ``estimate`` with the focal length of the context."""
        if not self.finish_steps:
            return self.student.locate(scene, images, cameras, context_images, intrinsics=intrinsics, **places)
        if intrinsics is None:
            intrinsics = cameras.intrinsics.mean(dim=1, keepdim=True).expand(*images.shape[:2], 4)
        return super().locate(scene, images, cameras, context_images, intrinsics=intrinsics, **places)

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
        if not self.training:
            return self.predict(views, self.estimate(views.images)) if self.finish_steps else self.student(views)
        batch = self._next_batch()
        weight = self.end_weight + (self.start_weight - self.end_weight) * _left(batch, max(self.fade_batches, 1))
        forced = _left(batch, self.forced_batches)
        if not weight and not forced:
            return self.student(views)
        wanted = self._solved(views.images)
        prediction = self._forced(views, wanted, forced) if forced else self.student(views)
        loss = self._loss(prediction.cameras, wanted)
        known = [*self._lessons, (views.images, wanted)]
        for images, cameras in Random(batch).choices(known, k=self.lessons):
            loss = loss + self._loss(self.student.estimate(images), cameras)
        if self.lessons and type(views.images) is Tensor:  # a plan computes with tensors without content
            self._lessons.append((views.images.clone(), wanted))
        losses = dict(prediction.extra_losses) | {"taught_cameras": weight * loss}
        return replace(prediction, extra_losses=losses)

    def _forced(self, views: Views, wanted: Cameras, share: float) -> Prediction:
        """The student's prediction, rendered with the teacher's cameras, in the student's frame, in some scenes."""
        own = self.student.estimate(views.images)
        chosen = torch.rand(len(own.c2w), device=own.c2w.device)[:, None, None] < share
        shown = Cameras(
            torch.where(chosen[..., None], _in_frame_of(own, wanted), own.c2w),
            torch.where(chosen, wanted.intrinsics, own.intrinsics),
        )
        return replace(self.student.predict(views, shown), cameras=own)

    def _loss(self, own: Cameras, wanted: Cameras) -> Float[Tensor, ""]:
        total = pose_differences(own.c2w, wanted.c2w).total()
        total = total + 0.2 * (own.intrinsics[..., :2].log() - wanted.intrinsics[..., :2].log()).abs().mean()
        if self.forced_batches:
            missed = own.c2w[..., :3, 3] - _in_frame_of(own, wanted)[..., :3, 3]
            total = total + 2 * missed.square().sum(-1).add(_TINY**2).sqrt().mean()
        return total

    def _next_batch(self) -> int:
        """Number of this training batch, from 0."""
        self._batch += 1
        with torch.no_grad():
            self.step.fill_(self._batch)
        return self._batch - 1

    def _resume(self, *_: object) -> None:
        self._batch = int(self.step)

    def predict(self, views: Views, cameras: Cameras) -> Prediction:
        return self.student.predict(views, cameras)

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


def _left(batch: int, batches: int) -> float:
    """Share of a number of batches that is left, 1 to 0."""
    return max(0.0, 1 - batch / batches) if batches else 0.0


def _in_frame_of(own: Cameras, wanted: Cameras) -> Float[Tensor, "b v 4 4"]:
    """The wanted poses after the rigid motion that brings them near the own ones."""
    return motion_between(wanted.c2w, own.c2w.detach()).poses(wanted.c2w)
