"""Make a video of new views from a folder of images, a video or a held-out scene, without cameras.

    python tools/render_video.py --run runs/rayzer_demo --images photos --output out.mp4
    python tools/render_video.py --run runs/rayzer_demo --images clip.mp4 --output out.mp4 --path wobble --side_by_side
    python tools/render_video.py --run runs/rayzer --images photos --output out.mp4 --path orbit --degrees 60 --loop

This is ``openrayzer video`` in a clone. ``--help`` describes the arguments and the exit codes.
"""

from openrayzer.cli import COMMANDS, run_tool

main = COMMANDS["video"].main

if __name__ == "__main__":
    run_tool(main)
