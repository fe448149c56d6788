"""Export the scene of a few images as coloured points, without cameras.

    python tools/export_points.py --run runs/rayzer_geometric --images photos --output scene.ply
    python tools/export_points.py --run runs/rayzer_geometric --images clip.mp4 --output scene.ply --draw_cameras
    python tools/export_points.py --run runs/rayzer_geometric --data data/rooms_demo --output scene.ply

This is ``openrayzer export-points`` in a clone. ``--help`` describes the arguments and the exit codes.
"""

from openrayzer.cli import COMMANDS, run_tool

main = COMMANDS["export-points"].main

if __name__ == "__main__":
    run_tool(main)
