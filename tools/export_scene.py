"""Export the scene of a few images in files that other programs open, without cameras.

    python tools/export_scene.py --run runs/erayzer --images photos --output scene.ply
    python tools/export_scene.py --run runs/erayzer --images clip.mp4 --output scene.splat --depth depth
    python tools/export_scene.py --run runs/rayzer_geometric --images photos --output scene.glb --draw_cameras

This is ``openrayzer export-scene`` in a clone. ``--help`` describes the arguments and the exit codes.
"""

from openrayzer.cli import COMMANDS, run_tool

main = COMMANDS["export-scene"].main

if __name__ == "__main__":
    run_tool(main)
