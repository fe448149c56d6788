"""Export the scene of a few images as coloured points, without cameras.

    openrayzer export-points --run runs/rayzer_geometric --images photos --output scene.ply
    openrayzer export-points --run runs/rayzer_geometric --images clip.mp4 --output scene.ply --draw_cameras
    openrayzer export-points --run runs/rayzer_geometric --data data/rooms_demo --output scene.ply

This is `openrayzer export-scene --content points`, whose help describes the files. The model needs a map "depth".

Exit code: 0 done; 2 wrong input; 130 interrupted.
"""

from argparse import ArgumentParser

from openrayzer.cli.commands import export_scene_command

run = export_scene_command.run


def parser() -> ArgumentParser:
    """The parser of the command."""
    parser = export_scene_command.scene_parser("export-points", __doc__)
    parser.set_defaults(content="points")
    return parser
