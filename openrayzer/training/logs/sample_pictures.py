"""Sample pictures: context views, target views and the model's predictions side by side."""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from openrayzer.data.pixels.false_colours import as_picture, colour_range
from openrayzer.data.pixels.resizing import to_bytes
from openrayzer.data.sampling.view_samplers import spread
from openrayzer.evaluation.metrics.image_metrics import psnr
from openrayzer.types import Prediction, Views

MAX_SCENES, MAX_CONTEXT, MAX_TARGETS = 4, 4, 3
GAP, LINE = 4, 14
"""Pixels between tiles, and height of a line of text."""
TILE = 96
"""Smaller images are enlarged by a whole factor to at least this width in pixels, so that captions fit."""
TITLE_WIDTH = 480


def draw_samples(prediction: Prediction, views: Views, path: Path, *, step: int) -> None:
    """Draw the first scenes of ``views`` and the model's prediction of their targets into the file ``path``.

    Each scene is a row: some of its context views, then target, prediction and the prediction's maps side by side, with
    frame numbers, PSNR and the names of the maps above them.
    """
    quality = psnr(prediction.images.float(), views.target_images)  # (b, vt)
    rows = [_row(views, prediction, quality, scene) for scene in range(min(MAX_SCENES, len(views.scenes)))]
    width = max(TITLE_WIDTH, *(row.width for row in rows))
    picture = Image.new("RGB", (width, LINE + GAP + sum(row.height + GAP for row in rows)), "white")
    title = f"step {step}   mean PSNR {float(quality.mean()):.2f} dB   context | target | prediction"
    ImageDraw.Draw(picture).text((GAP, 2), title, fill="black", font=ImageFont.load_default())
    top = LINE + GAP
    for row in rows:
        picture.paste(row, (0, top))
        top += row.height + GAP
    picture.save(path, format="png")


def _row(views: Views, prediction: Prediction, quality: Tensor, scene: int) -> Image.Image:
    frames = views.frames[scene].tolist()
    context, target = views.context[scene].tolist(), views.target[scene].tolist()
    tiles = [(to_bytes(views.images[scene, view]), f"context {frames[view]}") for view in spread(context, MAX_CONTEXT)]
    ranges = {name: colour_range(name, maps[scene]) for name, maps in prediction.extra_images.items()}
    for place in spread(list(range(len(target))), MAX_TARGETS):
        tiles.append((to_bytes(views.target_images[scene, place]), f"target {frames[target[place]]}"))
        tiles.append((to_bytes(prediction.images[scene, place]), f"{float(quality[scene, place]):.1f} dB"))
        for name, maps in prediction.extra_images.items():
            tiles.append((as_picture(name, maps[scene, place], ranges[name]), name))
    height, width = views.images.shape[-2:]
    factor = -(-TILE // width)
    height, width = height * factor, width * factor
    row = Image.new("RGB", (GAP + len(tiles) * (width + GAP), 2 * LINE + height), "white")
    draw, font = ImageDraw.Draw(row), ImageFont.load_default()
    draw.text((GAP, 2), views.scenes[scene], fill="black", font=font)
    for number, (image, caption) in enumerate(tiles):
        left = GAP + number * (width + GAP)
        draw.text((left, LINE), caption, fill="black", font=font)
        tile = Image.fromarray(image.numpy()).resize((width, height), Image.Resampling.NEAREST)
        row.paste(tile, (left, 2 * LINE))
    return row
