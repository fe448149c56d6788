"""Make a video of new views from a folder of images or a video, without cameras.

    python tools/render_video.py --run runs/rayzer_demo --images photos --output out.mp4
    python tools/render_video.py --run runs/rayzer_demo --images clip.mp4 --output out.mp4 --path wobble --side_by_side
    python tools/render_video.py --run runs/rayzer --images photos --output out.mp4 --path orbit --degrees 60 --loop
    python tools/render_video.py --run runs/rayzer --images photos --output out.mp4 --export_cameras cameras.json colmap
    python tools/render_video.py --run runs/lvsm --images scene/images --cameras scene/transforms.json --output out.mp4

Some views are chosen evenly, their cameras are estimated together, the scene is reconstructed once, and frames are
rendered along a path through the cameras:

    interpolate  smoothly through all views in their order; --loop there and back
    orbit        a level circle about the point that the views look at; --degrees for a part of it
    wobble       a small circle about the middle view, which looks at what is in its middle
    spiral       circles about the mean camera while it moves forward and back, as in LLFF
    FILE.json    cameras of a file, in the frame of --export_cameras; with another --frames, smoothly through them

Models that need camera poses (LVSM) or intrinsics get them by --cameras. Videos that are there are replaced once the
new ones are whole; folders that are there and not empty are not written to.

Exit code: 0 done; 2 something given is wrong, and then no video is left; 130 interrupted; 143 ended by
SIGTERM. Neither of the last two leaves part of a video.
"""

import argparse
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from tqdm import tqdm

from openrayzer.cli import run_tool


def main() -> int:
    """Parse arguments, make the video, say what came of it."""
    arguments = parse()
    from openrayzer.video.making import VideoRequest, default_device, make_video  # slow: only once arguments are right
    from openrayzer.video.named_paths import PathChoice

    beside = arguments.side_by_side
    if beside is not None and not beside.name:
        beside = arguments.output.with_name(f"{arguments.output.stem}_side_by_side.mp4")
    request = VideoRequest(
        run=arguments.run,
        images=arguments.images,
        output=arguments.output,
        checkpoint=arguments.checkpoint,
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
        num_views=arguments.num_views,
        window=None if arguments.window is None else tuple(arguments.window),
        image_size=None if arguments.image_size is None else tuple(arguments.image_size),
        cameras=arguments.cameras,
        side_by_side=beside,
        export=tuple(arguments.export_cameras),
        export_path=arguments.export_path,
        batch=arguments.batch,
        quality=arguments.quality,
        device=arguments.device or default_device(),
    )
    made = make_video(request, say=lambda note: print(f"note: {note}", file=sys.stderr), progress=bar)
    height, width = made.image_size
    names = ", ".join(made.views.names)
    print(f"{len(made.views.names)} views: {names}")
    print(f"{request.output}: {made.num_frames} frames of {width} x {height}, {made.num_frames / request.fps:.2f} s")
    for file in (beside, *request.export, request.export_path):
        if file is not None:
            print(f"{file}")
    return 0


def bar(frames: Iterator, total: int) -> Iterable:
    """Progress on stderr."""
    return tqdm(frames, total=total, unit="frame", disable=None)


def parse() -> argparse.Namespace:
    """What the user typed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--run", required=True, metavar="DIR", help="run folder, weight folder, or owner/name on the Hugging Face hub")
    add("--images", type=Path, required=True, metavar="PATH", help="folder of images, or a video")
    add("--output", type=Path, required=True, metavar="FILE.mp4", help="the video")
    add("--checkpoint", default="latest", metavar="NAME", help="latest (default), or one, e.g. step_00001000")
    add("--path", default="interpolate", metavar="NAME", help="interpolate (default), orbit, wobble, spiral, FILE.json")
    add("--frames", type=int, metavar="N", help="of the video (default: 120, or as many as FILE.json has cameras)")
    add("--fps", type=float, default=30.0, metavar="N", help="frames per second (default: 30)")
    add("--loop", action="store_true", help="end where it began: there and back, or swing; circles always do")
    add(
        "--pace",
        choices=["views", "speed"],
        default="views",
        help="of interpolate: views evenly spaced in time (default), or steps of even length",
    )
    add(
        "--degrees",
        type=float,
        default=360.0,
        metavar="N",
        help="how far around an orbit goes, the middle view in its middle (default: 360)",
    )
    add("--turns", type=int, metavar="N", help="circles of a wobble (default: 1) or spiral (default: 2)")
    add(
        "--radius",
        type=float,
        metavar="SHARE",
        help="of a wobble, as a share of the largest distance of two views "
        "(default: 0.1); of a spiral, of its own radii (default: 1)",
    )
    add(
        "--num_views",
        type=int,
        metavar="N",
        help="views that the model is given, evenly chosen (default: as many as the run was trained with)",
    )
    add("--window", type=int, nargs=2, metavar=("FIRST", "LAST"), help="choose from these frames only, counted from 0")
    add(
        "--image_size",
        type=int,
        nargs=2,
        metavar=("H", "W"),
        help="of views and frames (default: the run's); images are resized to cover it and cut at the centre",
    )
    add(
        "--cameras",
        type=Path,
        metavar="PATH",
        help="true cameras, for models that need them: cameras.json as exported "
        "here, a transforms.json, a folder with a COLMAP model",
    )
    add(
        "--side_by_side",
        type=Path,
        nargs="?",
        const=Path(),
        metavar="FILE.mp4",
        help="a second video: nearest input | new view, all inputs below (default name: OUTPUT_side_by_side.mp4)",
    )
    add(
        "--export_cameras",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="PATH",
        help="cameras of the "
        "views: X.json (ours), FOLDER/transforms.json (nerfstudio), FOLDER (COLMAP text); the last two with the images",
    )
    add("--export_path", type=Path, metavar="FILE.json", help="cameras of the frames, which --path takes back")
    add(
        "--batch",
        type=int,
        default=8,
        metavar="N",
        help="most frames rendered together (default: 8; fewer where memory ends)",
    )
    add("--quality", choices=["best", "high", "small"], default="high", help="of the video against its size")
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1, ... (default: a GPU where there is one)")
    return parser.parse_args()


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # so that unfinished files are cleared away
    run_tool(main)
