"""Export the scene of a few images as coloured points, without cameras.

    python tools/export_points.py --run runs/rayzer_geometric --images photos --output scene.ply
    python tools/export_points.py --run runs/rayzer_geometric --images clip.mp4 --output scene.ply --draw_cameras
    python tools/export_points.py --run runs/rayzer_geometric --data data/rooms_demo --output scene.ply

The tool chooses context views evenly from the images and estimates their cameras, as tools/render_video.py does. The
model renders the depth of each context view. Each pixel becomes a point at its depth, with its colour; the tool leaves
out points of low confidence. The model needs a map "depth"; points are in the world frame and unit of its cameras.
PLY files open in MeshLab, CloudCompare and Blender.

Exit code: 0 done; 2 wrong input; 130 interrupted.
"""

import argparse
import sys
from pathlib import Path

from openrayzer.cli import add_input_arguments, input_arguments, run_tool


def main() -> int:
    """Parse arguments, write the points, print their number."""
    arguments = parse()
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


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
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
    return parser.parse_args()


if __name__ == "__main__":
    run_tool(main)
