"""Make a video of new views from a folder of images, a video or a held-out scene, without cameras.

    openrayzer video --run runs/rayzer_demo --images photos --output out.mp4
    openrayzer video --run runs/rayzer_demo --images clip.mp4 --output out.mp4 --path wobble --side_by_side
    openrayzer video --run runs/rayzer --images photos --output out.mp4 --path orbit --degrees 60 --loop
    openrayzer video --run runs/rayzer --images photos --output out.mp4 --export_cameras cameras.json colmap
    openrayzer video --run runs/lvsm --images scene/images --cameras scene/transforms.json --output out.mp4
    openrayzer video --run runs/lvsm --data /data/re10k --output out.mp4

The tool chooses context views evenly from the images and estimates their cameras. It reconstructs the scene once, then
renders frames along a path:

    interpolate  smoothly through all views in their order; --loop goes there and back
    orbit        a level circle around the point that the views look at; --degrees sets its angle
    wobble       a small circle around the middle view, looking at a point in front of it
    spiral       circles around the mean camera while it moves forward and back, as in LLFF
    FILE.json    cameras from a file, in the world frame of --export_cameras; another --frames interpolates them

Models that need camera poses (LVSM) or intrinsics get them from --cameras or --data. An existing video is replaced when
the new one is complete. The tool does not write into a folder that is not empty.

Exit code: 0 done; 2 wrong input; 130 interrupted; 143 ended by SIGTERM. After exit codes other than 0 no unfinished
video is left.
"""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterable, Iterator
from pathlib import Path

from openrayzer.cli import add_input_arguments, command_parser, exit_at_sigterm, input_arguments


def run(arguments: Namespace) -> int:
    """Make the video and print the outputs."""
    from openrayzer.video.making import VideoRequest, make_video  # slow to import
    from openrayzer.video.named_paths import PathChoice
    from openrayzer.video.run_inputs import default_device

    beside = arguments.side_by_side
    if beside is not None and not beside.name:
        beside = arguments.output.with_name(f"{arguments.output.stem}_side_by_side.mp4")
    request = VideoRequest(
        **input_arguments(arguments),
        output=arguments.output,
        path=PathChoice(
            name=arguments.path,
            num_frames=arguments.frames,
            loop=arguments.loop,
            pace=arguments.pace,
            degrees=arguments.degrees,
            turns=arguments.turns,
            radius=arguments.radius,
        ),
        fps=arguments.fps,
        maps=tuple(dict.fromkeys(arguments.maps)),
        side_by_side=beside,
        export=tuple(arguments.export_cameras),
        export_path=arguments.export_path,
        quality=arguments.quality,
        device=arguments.device or default_device(),
    )
    with exit_at_sigterm():
        made = make_video(request, say=lambda note: print(f"note: {note}", file=sys.stderr), progress=bar)
    height, width = made.image_size
    names = ", ".join(made.views.names)
    print(f"{len(made.views.names)} views: {names}")
    print(f"{request.output}: {made.num_frames} frames of {width} x {height}, {made.num_frames / request.fps:.2f} s")
    for file in (*request.map_outputs.values(), beside, *request.export, request.export_path):
        if file is not None:
            print(f"{file}")
    return 0


def bar(frames: Iterator, total: int) -> Iterable:
    """Show the progress on stderr."""
    from openrayzer.machine.progress import with_progress

    return with_progress(frames, total=total, unit="frames", title="render")


def parser() -> ArgumentParser:
    """The parser of the command."""
    parser = command_parser("video", __doc__)
    add_input_arguments(parser)
    add = parser.add_argument
    add("--output", type=Path, required=True, metavar="FILE", help="video to write: .mp4, .webp or .gif")
    add("--path", default="interpolate", metavar="NAME", help="interpolate (default), orbit, wobble, spiral, FILE.json")
    add(
        "--frames", type=int, metavar="N", help="number of frames (default: 120, or the number of cameras in FILE.json)"
    )
    add("--fps", type=float, default=30.0, metavar="N", help="frames per second (default: 30)")
    add("--loop", action="store_true", help="end at the first camera: go there and back (full circles always do)")
    add(
        "--pace",
        choices=["views", "speed"],
        default="views",
        help="of interpolate: equal time between views (default), or equal distance between frames",
    )
    add(
        "--degrees",
        type=float,
        default=360.0,
        metavar="N",
        help="angle of an orbit, centred on the middle view (default: 360)",
    )
    add("--turns", type=int, metavar="N", help="number of circles of a wobble (default: 1) or spiral (default: 2)")
    add(
        "--radius",
        type=float,
        metavar="SHARE",
        help="radius of a wobble as a share of the largest distance between two views (default: 0.1); factor on the "
        "radii of a spiral (default: 1)",
    )
    add(
        "--maps",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="maps of the model, e.g. depth; each gets a video OUTPUT.NAME.mp4, in false colours or in grey",
    )
    add(
        "--side_by_side",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="FILE.mp4",
        help="second video for comparison: nearest input | new view, all inputs below (default name: "
        "OUTPUT_side_by_side.mp4)",
    )
    add(
        "--export_cameras",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="PATH",
        help="write the cameras of the views: X.json (our own form), FOLDER/transforms.json (nerfstudio), FOLDER "
        "(COLMAP text); the last two include the images",
    )
    add("--export_path", type=Path, metavar="FILE.json", help="write the cameras of the frames; --path reads them")
    add(
        "--quality",
        choices=["best", "high", "small"],
        default="high",
        help="quality of the videos; a better quality makes larger files",
    )
    return parser
