"""Export the scene of a few images as coloured points, without cameras.

    openrayzer export-points --run runs/rayzer_geometric --images photos --output scene.ply
    openrayzer export-points --run runs/rayzer_geometric --images clip.mp4 --output scene.ply --draw_cameras
    openrayzer export-points --run runs/rayzer_geometric --data data/rooms_demo --output scene.ply

The tool chooses context views evenly from the images and estimates their cameras, as `openrayzer video` does. The
model renders the depth of each context view. Each pixel becomes a point at its depth, with its colour; the tool leaves
out points of low confidence. The model needs a map "depth"; points are in the world frame and unit of its cameras.
PLY files open in MeshLab, CloudCompare and Blender.

Exit code: 0 done; 2 wrong input; 130 interrupted.
"""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from openrayzer.cli import add_input_arguments, command_parser, input_arguments


def run(arguments: Namespace) -> int:
    """Write the points and print their number."""
    from openrayzer.video.points import PointsRequest, make_points  # slow to import
    from openrayzer.video.run_inputs import default_device

    request = PointsRequest(
        **input_arguments(arguments),
        output=arguments.output,
        min_confidence=arguments.min_confidence,
        draw_cameras=arguments.draw_cameras,
        device=arguments.device or default_device(),
    )
    made = make_points(request, say=lambda note: print(f"note: {note}", file=sys.stderr))
    names = made.views.names
    print(f"{len(names)} views: {', '.join(names)}")
    print(f"{request.output}: {made.summary()}")
    return 0


def parser() -> ArgumentParser:
    """The parser of the command."""
    parser = command_parser("export-points", __doc__)
    add_input_arguments(parser)
    add = parser.add_argument
    add("--output", type=Path, required=True, metavar="FILE.ply", help="file to write; an existing one is replaced")
    add(
        "--min_confidence",
        type=float,
        metavar="SHARE",
        help="leave out points of less confidence, from 0 to 1 (default: 0.5 if the model has a map of confidence)",
    )
    add("--draw_cameras", action="store_true", help="add a small red pyramid for each camera")
    return parser
