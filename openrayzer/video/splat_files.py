"""Files of Gaussians for other programs: the PLY of 3D Gaussian Splatting, and .splat."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from einops import rearrange, repeat
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from openrayzer.interfaces import Gaussians, InputError
from openrayzer.interfaces.explicit_scenes import CONSTANT_HARMONIC
from openrayzer.machine.writing import unwritable, whole_file
from openrayzer.types import map_tensors

POINT_OPACITY = 0.9
"""Opacity of Gaussians in place of points."""
LOGIT_MARGIN = 1e-6
"""Distance of opacities from 0 and 1 in a PLY file, which holds their logits."""
SMALLEST_SCALE = 1e-12
"""Lower limit of scales in a PLY file, which holds their logarithms."""


def gaussians_of_points(
    positions: Float[Tensor, "n 3"], colours: UInt8[Tensor, "n 3"], footprints: Float[Tensor, " n"]
) -> Gaussians:
    """Round Gaussians of one scene in place of points that stand for a pixel each, for models without Gaussians.

    Args:
        positions: the points.
        colours: their RGB colours.
        footprints: width of a pixel at the depth of each point; half of it is the standard deviation.
    """
    count = len(positions)
    return Gaussians(
        means=positions[None],
        scales=repeat(footprints / 2, "n -> 1 n xyz", xyz=3),
        rotations=torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(1, count, 4),
        opacities=torch.full((1, count), POINT_OPACITY),
        harmonics=(colours.float() / 255 - 0.5)[None, :, None] / CONSTANT_HARMONIC,
    )


def kept_gaussians(gaussians: Gaussians, kept: Bool[Tensor, "1 k"]) -> Gaussians:
    """The Gaussians of one scene for which ``kept`` is true, on the CPU."""
    return map_tensors(gaussians, lambda values: values[kept].detach().float().cpu()[None])


def write_gaussians(path: str | Path, gaussians: Gaussians) -> None:
    """Write the Gaussians of one scene in the format that the suffix of the name says, .ply or .splat.

    Raises:
        InputError: the format is unknown, a value is not finite, or the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in GAUSSIAN_FORMATS:
        raise InputError(f"{path}: Gaussians can be written as {' or '.join(GAUSSIAN_FORMATS)}")
    gaussians.require_finite()
    content = GAUSSIAN_FORMATS[path.suffix.lower()](gaussians)
    try:
        with whole_file(path, flush=False) as file:
            file.write_bytes(content)
    except OSError as error:
        raise unwritable(path, error) from error


def base_colours(gaussians: Gaussians) -> Float[Tensor, "b k 3"]:
    """Colours in [0, 1] of the harmonics of degree 0, the mean over all directions."""
    return (0.5 + CONSTANT_HARMONIC * gaussians.harmonics[:, :, 0]).clamp(0, 1)


def ply_content(gaussians: Gaussians) -> bytes:
    """A binary PLY file with the properties of 3D Gaussian Splatting, in its order.

    The file holds positions, normals of 0, coefficients of degree 0 (``f_dc``), the others channel by channel
    (``f_rest``), logits of opacities, logarithms of scales, and unit quaternions (w, x, y, z).

    Source: Kerbl et al. 2023, "3D Gaussian Splatting", the files of its code.
    """
    rest = rearrange(gaussians.harmonics[0, :, 1:], "k coefficient rgb -> k (rgb coefficient)")
    columns = {
        ("x", "y", "z"): gaussians.means[0],
        ("nx", "ny", "nz"): torch.zeros_like(gaussians.means[0]),
        _numbered("f_dc", 3): gaussians.harmonics[0, :, 0],
        _numbered("f_rest", rest.shape[1]): rest,
        ("opacity",): gaussians.opacities[0, :, None].logit(eps=LOGIT_MARGIN),
        _numbered("scale", 3): gaussians.scales[0].clamp(min=SMALLEST_SCALE).log(),
        _numbered("rot", 4): torch.nn.functional.normalize(gaussians.rotations[0], dim=-1),
    }
    names = [name for group in columns for name in group]
    header = [
        "ply", "format binary_little_endian 1.0", f"element vertex {gaussians.num_gaussians}",
        *(f"property float {name}" for name in names), "end_header",
    ]  # fmt: skip
    values = torch.cat(list(columns.values()), dim=1).numpy().astype("<f4")
    return "\n".join([*header, ""]).encode("ascii") + values.tobytes()


def splat_content(gaussians: Gaussians) -> bytes:
    """A .splat file: 32 bytes for each Gaussian, the largest and most opaque first. Colours have no direction.

    Each record has a position and scales in float32, then bytes: red, green, blue, opacity, and the unit quaternion
    (w, x, y, z) times 128 plus 128.

    Source: https://github.com/antimatter15/splat, the format of its viewer.
    """
    record = np.dtype([("position", "<f4", 3), ("scale", "<f4", 3), ("colour", "u1", 4), ("rotation", "u1", 4)])
    table = np.empty(gaussians.num_gaussians, record)
    table["position"], table["scale"] = gaussians.means[0].numpy(), gaussians.scales[0].numpy()
    colours = torch.cat([base_colours(gaussians)[0], gaussians.opacities[0, :, None]], dim=1)
    table["colour"] = (255 * colours).round().numpy()
    unit = torch.nn.functional.normalize(gaussians.rotations[0], dim=-1)
    table["rotation"] = (128 * unit + 128).round().clamp(0, 255).numpy()
    order = (gaussians.scales[0].prod(dim=-1) * gaussians.opacities[0]).argsort(descending=True, stable=True)
    return table[order.numpy()].tobytes()


def _numbered(name: str, count: int) -> tuple[str, ...]:
    return tuple(f"{name}_{number}" for number in range(count))


GAUSSIAN_FORMATS: dict[str, Callable[[Gaussians], bytes]] = {".ply": ply_content, ".splat": splat_content}
"""Content of a file by the suffix of its name."""
