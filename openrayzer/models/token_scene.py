"""What models whose scenes can grow have in common."""

import torch
from torch import Tensor

from openrayzer.interfaces import InputError
from openrayzer.layers.patches import image_size_of
from openrayzer.types import Scene


def check_extension(scene: Scene, images: Tensor) -> None:
    """Refuse images (b, v, 3, h, w) that cannot belong to the scene.

    Raises:
        InputError: they have another size, or there are more or fewer scenes.
    """
    size, known = image_size_of(images), scene.image_size
    if size != known:
        raise InputError(
            f"the scene was made of images of {known[0]} x {known[1]} pixels, the new ones have {size[0]} x {size[1]}"
        )
    if images.shape[0] != scene.tokens.shape[0]:
        raise InputError(
            f"the new images are of {images.shape[0]} scenes, and {scene.tokens.shape[0]} are to be extended"
        )


def joined(scene: Scene, added: Scene) -> Scene:
    """One scene that remembers what both do, in this order; it is not prepared."""
    tokens = torch.cat([scene.tokens, added.tokens], dim=1)
    return Scene(tokens, torch.cat([scene.positions, added.positions], dim=1), scene.image_size)
