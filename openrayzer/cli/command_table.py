"""The commands of ``openrayzer``. This file imports none of them, so that ``openrayzer --help`` is fast.

To add a command, add its line to ``_COMMANDS``. Its module has two functions: ``parser()`` returns the
``ArgumentParser``, and ``run(arguments)`` takes the parsed arguments and returns the exit code.
"""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        name: its name after ``openrayzer``.
        summary: its effect, in a few words.
        module: the module with its functions.
    """

    name: str
    summary: str
    module: str

    def parser(self) -> ArgumentParser:
        """The parser of its arguments."""
        return import_module(self.module).parser()

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Parse the arguments, by default those of the process, and run the command; returns the exit code."""
        module = import_module(self.module)
        return module.run(module.parser().parse_args(arguments))


_HERE = "openrayzer.cli.commands"
_BENCHMARKS = "openrayzer.benchmarks"
_COMMANDS = (
    Command("train", "train an experiment", f"{_HERE}.train_command"),
    Command("evaluate", "evaluate a model and simple baselines on held-out clips", f"{_HERE}.evaluate_command"),
    Command("video", "make a video of new views from images or from a video", f"{_HERE}.video_command"),
    Command("demo", "open a web page for photos and videos", "openrayzer.web.server"),
    Command("compare", "compare runs and evaluations in one table", f"{_HERE}.compare_command"),
    Command("study", "train and evaluate the variants of a study", f"{_HERE}.study_command"),
    Command("prepare", "index, verify, convert and split data; find pairs and overlaps", f"{_HERE}.prepare_command"),
    Command("export-scene", "write a scene as Gaussians, points or depth maps", f"{_HERE}.export_scene_command"),
    Command("export-points", "write a scene as coloured points", f"{_HERE}.export_points_command"),
    Command("import-weights", "turn published weights into a run folder", f"{_HERE}.import_command"),
    Command("export-weights", "write the weights of a run, ready to publish", f"{_HERE}.export_command"),
    Command("init", "start a project of one's own in a new folder", f"{_HERE}.init_command"),
    Command("list", "list the components and their parameters", f"{_HERE}.list_command"),
    Command("check", "check experiments and print their cost without running them", f"{_HERE}.check_command"),
    Command("check-gpu", "check whether training works on the GPUs of this machine", f"{_HERE}.check_gpu_command"),
    Command("check-cluster", "check machines, links and data before a long run", f"{_HERE}.check_cluster_command"),
    Command("doctor", "check this installation, with a remedy for each problem", f"{_HERE}.doctor_command"),
    Command("replay", "repeat a skipped training step from its saved data", f"{_HERE}.replay_command"),
    Command("benchmark-attention", "measure the attention backends", f"{_BENCHMARKS}.attention_command"),
    Command("benchmark-data", "measure indexing and loading", f"{_BENCHMARKS}.data_command"),
    Command("benchmark-rendering", "measure renderers and rasterisers", f"{_BENCHMARKS}.rendering_command"),
    Command("benchmark-training", "measure the training step", f"{_BENCHMARKS}.training_command"),
    Command("completion", "print a script that completes commands in bash or zsh", f"{_HERE}.completion_command"),
)  # fmt: skip
COMMANDS = {command.name: command for command in _COMMANDS}
