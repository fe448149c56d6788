"""Export the scene of a few images in files that other programs open, without cameras.

    openrayzer export-scene --run runs/erayzer --images photos --output scene.ply
    openrayzer export-scene --run runs/erayzer --images clip.mp4 --output scene.splat --depth depth
    openrayzer export-scene --run runs/rayzer_geometric --images photos --output scene.glb --draw_cameras

The tool chooses context views evenly from the images, estimates their cameras and reconstructs their scene, as
`openrayzer video` does. The suffix of the output sets its content:

    .ply    Gaussians as 3D Gaussian Splatting stores them, for SuperSplat, nerfstudio and Brush; coloured points for a
            model without Gaussians, or with --content points
    .splat  Gaussians whose colours have no direction, in 32 bytes each, for viewers on the web
    .glb    coloured points at the depth of each pixel, for 3D viewers and Blender

With --content gaussians, or in a .splat file, each pixel of a model with depth but without Gaussians becomes one.

--depth also writes a depth map of each view, and --export_cameras the cameras. All files are in the unit of length of
the estimated cameras, .ply and .splat also in their world frame; in .glb files, y points up and z backward.

Exit code: 0 done; 2 wrong input; 130 interrupted.
"""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from openrayzer.cli import add_input_arguments, command_parser, input_arguments


def run(arguments: Namespace) -> int:
    """Write the scene and print its content."""
    from openrayzer.video.exporting import MIN_OPACITY, SceneRequest, export_scene  # slow to import
    from openrayzer.video.run_inputs import default_device

    request = SceneRequest(
        **input_arguments(arguments),
        output=arguments.output,
        content=arguments.content,
        min_confidence=arguments.min_confidence,
        min_opacity=MIN_OPACITY if arguments.min_opacity is None else arguments.min_opacity,
        draw_cameras=arguments.draw_cameras,
        cameras_output=arguments.export_cameras,
        depth=arguments.depth,
        depth_format=arguments.depth_format,
        device=arguments.device or default_device(),
    )
    written = export_scene(request, say=lambda note: print(f"note: {note}", file=sys.stderr))
    names = written.views.names
    print(f"{len(names)} views: {', '.join(names)}")
    print(f"{request.output}: {written.summary}")
    if request.depth is not None:
        print(f"{request.depth}: {len(names)} depth maps")
    return 0


def parser() -> ArgumentParser:
    """The parser of the command."""
    return scene_parser("export-scene", __doc__)


def scene_parser(name: str, description: str | None) -> ArgumentParser:
    """The parser of a command that writes a scene.

    Args:
        name: the command.
        description: for its help.
    """
    parser = command_parser(name, description)
    add_input_arguments(parser)
    add = parser.add_argument
    add("--output", type=Path, required=True, metavar="FILE", help="file to write; an existing one is replaced")
    add(
        "--content",
        choices=("auto", "gaussians", "points"),
        default="auto",
        help="content of the file (default: Gaussians if the scene has some and the format can hold them)",
    )
    add(
        "--min_confidence",
        type=float,
        metavar="SHARE",
        help="leave out points of less confidence, from 0 to 1 (default: 0.5 if the model has a map of confidence)",
    )
    add(
        "--min_opacity",
        type=float,
        metavar="SHARE",
        help="leave out Gaussians of less opacity, from 0 to 1 (default: 1/255, below which they change no pixel)",
    )
    add("--draw_cameras", action="store_true", help="add a small red pyramid for each camera to points")
    add(
        "--export_cameras",
        type=Path,
        metavar="PATH",
        help="also write the cameras, as `openrayzer video`: a .json file, DIR/transforms.json for nerfstudio, or a "
        "folder in COLMAP's form, with coloured points if the model has depth",
    )
    add("--depth", type=Path, metavar="DIR", help="folder to write for depth maps")
    add(
        "--depth_format",
        choices=("npy", "png"),
        default="npy",
        help="float32 arrays, or 16-bit pictures with 1000 steps for each unit of length (default: npy)",
    )
    return parser
