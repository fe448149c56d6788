"""RayDer in plain torch: one masked pass over contexts and targets, as in the published code.

Images are channels last in [-1, 1]. Places in time turn nothing inside a view, so they are left out.

Source of all formulas: CompVis/rayder (f011c0a), rayder/model.py; arXiv 2605.31535.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from einops import einsum, rearrange, reduce, repeat
from jaxtyping import Bool, Float
from straight_line.common import State, depth_of, linear, rms_norm
from torch import Tensor

CAMERA_ROLE, CONTEXT_ROLE, TARGET_ROLE = 0, 1, 2
PATCH_KIND, CAMERA_KIND, VIEW_KIND = 0, 1, 2
"""Rows of the embeddings of view types and token types."""
RADIUS = 3
"""Radius of the 7 x 7 window on fine grids."""
EPS = 1e-6


@dataclass(frozen=True)
class Roles:
    """Codes for the norms of each view, and which view (row) attends to which view (column)."""

    patches: Float[Tensor, "t 2d"]
    registers: Float[Tensor, "t 2d"]
    sight: Bool[Tensor, "t t"]


@dataclass(frozen=True)
class Views:
    """Cameras (double precision) and states of all views."""

    rotation: Float[Tensor, "b t 3 3"]
    translation: Float[Tensor, "b t 3"]
    focal: Float[Tensor, "b t"]
    state: Float[Tensor, "b t s"]


def forward(state: State, inputs: Mapping[str, Tensor], config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Compute R, t, f and state of all views; render targets without and with states, and as in training."""
    images, num_context, num_target = inputs["image"], config["n_in"], config["n_target"]
    views = estimate(state, images)
    contexts, targets = range(num_context), range(num_context, num_context + num_target)
    sight = sights(num_context, num_target, training=False)
    return {
        "R": views.rotation.float(),
        "t": views.translation.float(),
        "f": views.focal.float(),
        "state": views.state,
        "render_nostate": synthesise(state, images, views, contexts, targets, sight, with_state=False),
        "render_state": synthesise(state, images, views, contexts, targets, sight, with_state=True),
        "render_train_ar": training_render(state, images, views),
    }


def training_render(state: State, images: Float[Tensor, "b t h w 3"], views: Views) -> Float[Tensor, "b rest h w 3"]:
    """Render each view except the first from all views before it, with its state."""
    last = images.shape[1] - 1
    sight = sights(last, last, training=True)
    return synthesise(state, images, views, range(last), range(1, last + 1), sight, with_state=True)


def sights(num_context: int, num_target: int, *, training: bool) -> Bool[Tensor, "t t"]:
    """Contexts attend to earlier contexts; a target to itself and to contexts: all, in training the earlier ones."""
    contexts = torch.ones(num_context, num_context, dtype=torch.bool).tril()
    seen = torch.ones(num_target, num_context, dtype=torch.bool)
    top = torch.cat([contexts, torch.zeros(num_context, num_target, dtype=torch.bool)], dim=1)
    return torch.cat([top, torch.cat([seen.tril() if training else seen, torch.eye(num_target).bool()], dim=1)])


def estimate(state: State, images: Float[Tensor, "b t h w 3"]) -> Views:
    """Estimate cameras and states: rays are zero, all views attend to all, the image is not used."""
    batch, num_views = images.shape[:2]
    role = torch.full((num_views,), CAMERA_ROLE)
    everything = torch.ones(num_views, num_views, dtype=torch.bool)
    roles = Roles(code(state, role, PATCH_KIND), code(state, role, CAMERA_KIND), everything)
    pixels = torch.cat([images, torch.zeros(*images.shape[:-1], 6)], dim=-1)
    registers = repeat(state["camera_tokens.weight"], "1 d -> b t d", b=batch, t=num_views)
    _, registers = backbone(state, pixels, registers, roles)
    rotation, translation = exponential(head(state, "camera_pose_head", registers).double())
    log_focal = rearrange(head(state, "intrinsics_head", registers), "b t 1 -> b t")
    focal = log_focal.double().exp() + EPS
    return Views(rotation, translation, focal, head(state, "dynamic_state_head", registers))


def synthesise(
    state: State,
    images: Float[Tensor, "b t h w 3"],
    views: Views,
    contexts: Sequence[int],
    targets: Sequence[int],
    sight: Bool[Tensor, "t t"],
    *,
    with_state: bool,
) -> Float[Tensor, "b target h w 3"]:
    """Render targets; targets have no colours, contexts no state."""
    order, shape = [*contexts, *targets], images.shape[2:]
    colours = torch.cat([images[:, list(contexts)], torch.zeros(len(images), len(targets), *shape)], dim=1)
    rays = plucker(views.rotation[:, order], views.translation[:, order], views.focal[:, order], shape[:2])
    role = torch.tensor([CONTEXT_ROLE] * len(contexts) + [TARGET_ROLE] * len(targets))
    roles = Roles(code(state, role, PATCH_KIND), code(state, role, VIEW_KIND), sight)
    registers = repeat(state["nvs_tokens.weight"], "1 d -> b t d", b=len(images), t=len(order))
    if with_state:
        added = linear(state, "dynamic_state_in_proj", views.state[:, list(targets)])
        registers = registers + F.pad(added, (0, 0, len(contexts), 0))
    render, _ = backbone(state, torch.cat([colours, rays], dim=-1), registers, roles)
    return render[:, len(contexts) :]


def code(state: State, role: Tensor, kind: int) -> Float[Tensor, "t 2d"]:
    """Return the codes for the norms of a kind of token in views with these roles."""
    return state["view_type_embedding.weight"][role] + state["token_type_embedding.weight"][kind]


def head(state: State, name: str, registers: Float[Tensor, "b t d"]) -> Float[Tensor, "b t o"]:
    """RMS norm and a linear layer."""
    return linear(state, f"{name}.out_proj", rms_norm(registers, state[f"{name}.norm.scale"], eps=EPS))


def exponential(
    twist: Float[Tensor, "b t 6"],
) -> tuple[Float[Tensor, "b t 3 3"], Float[Tensor, "b t 3"]]:
    """R = exp(omega^), t = J_left(omega) v; not for angles near 0."""
    omega, v = twist.split(3, dim=-1)
    angle = omega.norm(dim=-1)[..., None, None]
    x, y, z = omega.unbind(dim=-1)
    zero = torch.zeros_like(x)
    skew = rearrange([zero, -z, y, z, zero, -x, -y, x, zero], "(i j) b t -> b t i j", i=3)
    first, second = angle.sin() / angle, (1 - angle.cos()) / angle.square()
    third = (angle - angle.sin()) / angle**3
    identity = torch.eye(3, dtype=twist.dtype)
    rotation = identity + first * skew + second * skew @ skew
    left = identity + second * skew + third * skew @ skew
    return rotation, einsum(left, v, "b t i j, b t j -> b t i")


def plucker(
    rotation: Float[Tensor, "b t 3 3"],
    translation: Float[Tensor, "b t 3"],
    focal: Float[Tensor, "b t"],
    size: Sequence[int],
) -> Float[Tensor, "b t h w 6"]:
    """Rays (d, o × d) through integer pixel coordinates; focal length in half spans of the shorter side."""
    height, width = size
    span = min(height - 1, width - 1)
    down, across = ((2 * torch.arange(count, dtype=focal.dtype) - (count - 1)) / span for count in (height, width))
    focal = rearrange(focal, "b t -> b t 1 1")
    x = repeat(across, "w -> h w", h=height) / focal
    y = repeat(down, "h -> h w", w=width) / focal
    direction = F.normalize(torch.stack([x, y, torch.ones_like(x)], dim=-1), dim=-1)
    direction = einsum(rotation, direction, "b t i j, b t h w j -> b t h w i")
    origin = repeat(translation, "b t i -> b t h w i", h=height, w=width)
    return torch.cat([direction, torch.linalg.cross(origin, direction)], dim=-1).float()


def backbone(
    state: State, pixels: Float[Tensor, "b t h w 9"], registers: Float[Tensor, "b t d"], roles: Roles
) -> tuple[Float[Tensor, "b t h w 3"], Float[Tensor, "b t d"]]:
    """Go down through the fine grids, through the middle, and up again, mixing each grid with its input."""
    count = depth_of(state, "backbone.merges")
    merges = [*(f"backbone.merges.{number}" for number in range(count)), "backbone.mid_merge"]
    splits = [*(f"backbone.splits.{number}" for number in range(count)), "backbone.mid_split"]
    cells, skips, sides = pixels, [], []
    for number, name in enumerate(merges):
        sides.append(round(math.sqrt(state[f"{name}.proj.weight"].shape[1] / cells.shape[-1])))
        squares = rearrange(cells, "b t (y p1) (x p2) c -> b t y x (p1 p2 c)", p1=sides[-1], p2=sides[-1])
        cells = linear(state, f"{name}.proj", squares)
        if number < count:
            cells = fine_layers(state, f"backbone.down_levels.{number}", cells, roles)
            skips.append(cells)
    cells, registers = middle_layers(state, cells, registers, roles)
    for number in reversed(range(count)):
        cells = split(linear(state, f"{splits[number + 1]}.proj", cells), sides[number + 1])
        cells = torch.lerp(skips[number], cells, state[f"{splits[number + 1]}.fac"])
        cells = fine_layers(state, f"backbone.up_levels.{number}", cells, roles)
    colours = linear(state, f"{splits[0]}.proj", rms_norm(cells, state[f"{splits[0]}.norm.scale"], eps=EPS))
    return split(colours, sides[0]), registers


def split(cells: Float[Tensor, "b t y x ppc"], side: int) -> Float[Tensor, "b t h w c"]:
    return rearrange(cells, "b t y x (p1 p2 c) -> b t (y p1) (x p2) c", p1=side, p2=side)


def fine_layers(state: State, name: str, cells: Float[Tensor, "b t y x c"], roles: Roles) -> Float[Tensor, "b t y x c"]:
    """Attention to the window around each cell, then the feed-forward layer."""
    rows, columns = cells.shape[2:4]
    seen, place = windows(rows, columns), coordinates(rows, columns)
    x = rearrange(cells, "b t y x c -> b t (y x) c")
    for number in range(depth_of(state, name)):
        layer = f"{name}.{number}"
        gains = rearrange(gain(state, f"{layer}.self_attn.norm", roles.patches), "t c -> t 1 c")
        x = x + attention(state, f"{layer}.self_attn", rms_norm(x, gains, eps=EPS), seen, place)
        gains = rearrange(gain(state, f"{layer}.ff.norm", roles.patches), "t c -> t 1 c")
        x = x + feed_forward(state, f"{layer}.ff", rms_norm(x, gains, eps=EPS))
    return rearrange(x, "b t (y x) c -> b t y x c", y=rows)


def middle_layers(
    state: State, cells: Float[Tensor, "b t y x d"], registers: Float[Tensor, "b t d"], roles: Roles
) -> tuple[Float[Tensor, "b t y x d"], Float[Tensor, "b t d"]]:
    """Attention between views without positions, within views with positions, then the feed-forward layer."""
    num_views, rows, columns = cells.shape[1:4]
    count = rows * columns
    place = coordinates(rows, columns)
    place = torch.cat([place, reduce(place, "n yx -> 1 yx", "mean")])
    view = repeat(torch.arange(num_views), "t -> (t n)", n=count + 1)
    sight, everything = roles.sight[view][:, view], torch.ones(count + 1, count + 1, dtype=torch.bool)
    x = torch.cat([rearrange(cells, "b t y x d -> b t (y x) d"), rearrange(registers, "b t d -> b t 1 d")], dim=2)

    def normed(name: str) -> Float[Tensor, "b t n d"]:
        patches = repeat(gain(state, f"{name}.norm", roles.patches), "t d -> t n d", n=count)
        register = rearrange(gain(state, f"{name}.register_norm", roles.registers), "t d -> t 1 d")
        return rms_norm(x, torch.cat([patches, register], dim=1), eps=EPS)

    for number in range(depth_of(state, "backbone.mid_level")):
        layer = f"backbone.mid_level.{number}"
        together = rearrange(normed(f"{layer}.global_attn"), "b t n d -> b 1 (t n) d")
        met = attention(state, f"{layer}.global_attn", together, sight)
        x = x + rearrange(met, "b 1 (t n) d -> b t n d", t=num_views)
        x = x + attention(state, f"{layer}.local_attn", normed(f"{layer}.local_attn"), everything, place)
        x = x + feed_forward(state, f"{layer}.ff", normed(f"{layer}.ff"))
    return rearrange(x[:, :, :-1], "b t (y x) d -> b t y x d", y=rows), x[:, :, -1]


def gain(state: State, name: str, codes: Float[Tensor, "t 2d"]) -> Float[Tensor, "t c"]:
    """Return the gain 1 + W c of a norm."""
    return 1 + linear(state, f"{name}.linear", codes)


def feed_forward(state: State, name: str, x: Float[Tensor, "b t n c"]) -> Float[Tensor, "b t n c"]:
    """SwiGLU: the first half of the rows are values, the second gates."""
    values, gates = linear(state, f"{name}.up_proj", x).chunk(2, dim=-1)
    return linear(state, f"{name}.down_proj", values * F.silu(gates))


def attention(
    state: State,
    name: str,
    x: Float[Tensor, "b t n c"],
    seen: Bool[Tensor, "n n"],
    place: Float[Tensor, "n 2"] | None = None,
) -> Float[Tensor, "b t n c"]:
    """Attention within each t. Queries and keys have length 1 times the root of the head's scale."""
    scale = rearrange(state[f"{name}.scale"].sqrt(), "h -> h 1 1")
    together = linear(state, f"{name}.qkv_proj", x)
    query, key, value = rearrange(together, "b t n (three h e) -> three b t h n e", three=3, h=len(scale))
    query, key = (heads * torch.rsqrt(heads.square().sum(dim=-1, keepdim=True) + EPS) * scale for heads in (query, key))
    if place is not None:
        frequencies = state[f"{name}.pos_emb.spatial_freqs"]
        query, key = turned(query, place, frequencies), turned(key, place, frequencies)
    weights = einsum(query, key, "b t h i e, b t h j e -> b t h i j").masked_fill(~seen, -torch.inf)
    read = einsum(weights.softmax(dim=-1), value, "b t h i j, b t h j e -> b t h i e")
    return linear(state, f"{name}.out_proj", rearrange(read, "b t h n e -> b t n (h e)"))


def turned(
    heads: Float[Tensor, "b t h n e"], place: Float[Tensor, "n 2"], frequencies: Float[Tensor, "2 h k"]
) -> Float[Tensor, "b t h n e"]:
    """Rotate pairs (i, i + 3k) by time (no effect), y and x, k pairs each; other channels stay."""
    angles = einsum(place, frequencies, "n yx, yx h k -> yx h n k")
    angle = torch.cat([torch.zeros_like(angles[0]), *angles], dim=-1)
    count = angle.shape[-1]
    u, v, rest = heads.split([count, count, heads.shape[-1] - 2 * count], dim=-1)
    return torch.cat([u * angle.cos() - v * angle.sin(), v * angle.cos() + u * angle.sin(), rest], dim=-1)


def coordinates(rows: int, columns: int) -> Float[Tensor, "n 2"]:
    """Return (y, x) of the centres of cells; the longer side spans -1 to 1."""
    y, x = ((2 * torch.arange(count) + 1 - count) / max(rows, columns) for count in (rows, columns))
    return torch.stack([repeat(y, "y -> (y x)", x=columns), repeat(x, "x -> (y x)", y=rows)], dim=-1)


def windows(rows: int, columns: int) -> Bool[Tensor, "n n"]:
    """Return which cell lies in the window of which; rows are clamped by the number of columns and vice versa.

    This is a defect of the published masks; it has an effect only for images that are not square.
    """
    row = repeat(torch.arange(rows), "y -> (y x)", x=columns)
    column = repeat(torch.arange(columns), "x -> (y x)", y=rows)
    middle_row = row.clamp(min=RADIUS, max=columns - 1 - RADIUS)
    middle_column = column.clamp(min=RADIUS, max=rows - 1 - RADIUS)
    near_row = (row - middle_row[:, None]).abs() <= RADIUS
    return near_row & ((column - middle_column[:, None]).abs() <= RADIUS)
