"""Pictures of what the model sees, should see and shows: context | target | prediction."""

from pathlib import Path

from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from openrayzer.data.pixels.resizing import to_bytes
from openrayzer.data.sampling.view_samplers import spread
from openrayzer.evaluation.metrics.image_metrics import psnr
from openrayzer.types import Views

MAX_SCENES, MAX_CONTEXT, MAX_TARGETS = 4, 4, 3
GAP, LINE = 4, 14
"""Pixels between pictures, and of a line of text."""
TILE = 96
"""Smaller pictures are enlarged by a whole factor to at least this width, so that captions fit."""
TITLE_WIDTH = 480


def draw_samples(prediction: Float[Tensor, "b vt 3 h w"], views: Views, path: Path, *, step: int) -> None:
    """Write a picture of the first scenes of ``views``, with what the model made of their targets, to ``path``.

    Each scene is a row: some of its context views, then target and prediction side by side, with frame numbers and
    PSNR above them.
    """
    quality = psnr(prediction, views.target_images)  # (b, vt)
    rows = [_row(views, prediction, quality, scene) for scene in range(min(MAX_SCENES, len(views.scenes)))]
    width = max(TITLE_WIDTH, *(row.width for row in rows))
    picture = Image.new("RGB", (width, LINE + GAP + sum(row.height + GAP for row in rows)), "white")
    title = f"step {step}   mean PSNR {float(quality.mean()):.2f} dB   context | target | prediction"
    ImageDraw.Draw(picture).text((GAP, 2), title, fill="black", font=ImageFont.load_default())
    top = LINE + GAP
    for row in rows:
        picture.paste(row, (0, top))
        top += row.height + GAP
    picture.save(path)


def _row(views: Views, prediction: Tensor, quality: Tensor, scene: int) -> Image.Image:
    frames = views.frames[scene].tolist()
    context, target = views.context[scene].tolist(), views.target[scene].tolist()
    tiles = [(views.images[scene, view], f"context {frames[view]}") for view in spread(context, MAX_CONTEXT)]
    for place in spread(list(range(len(target))), MAX_TARGETS):
        tiles.append((views.target_images[scene, place], f"target {frames[target[place]]}"))
        tiles.append((prediction[scene, place], f"{float(quality[scene, place]):.1f} dB"))
    height, width = views.images.shape[-2:]
    factor = -(-TILE // width)
    height, width = height * factor, width * factor
    row = Image.new("RGB", (GAP + len(tiles) * (width + GAP), 2 * LINE + height), "white")
    draw, font = ImageDraw.Draw(row), ImageFont.load_default()
    draw.text((GAP, 2), views.scenes[scene], fill="black", font=font)
    for number, (image, caption) in enumerate(tiles):
        left = GAP + number * (width + GAP)
        draw.text((left, LINE), caption, fill="black", font=font)
        tile = Image.fromarray(to_bytes(image).numpy()).resize((width, height), Image.Resampling.NEAREST)
        row.paste(tile, (left, 2 * LINE))
    return row
