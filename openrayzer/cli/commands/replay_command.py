"""Repeat a skipped training step from its dump, and show the first modules with values that are not finite.

    openrayzer replay runs/rayzer_dl3dv/bad_steps/step_00012345

A run writes a dump when it stops because of bad steps, and with train.bad_steps.dump "first" also at the first bad
step. The tool prints the loss of every micro-batch and the gradient norm beside the recorded values, with the scenes,
the first module whose output was not finite, the first module whose gradient was not finite, and the modules with the
largest gradients.

Exit code: 0 the step agrees with the record; 1 it does not, which can happen on another kind of device; 2 the input is
wrong.
"""

from argparse import ArgumentParser, Namespace
from itertools import islice
from pathlib import Path

from openrayzer.cli import command_parser

LARGEST = 8


def parser() -> ArgumentParser:
    """The parser of the command."""
    parser = command_parser("replay", __doc__)
    parser.add_argument("dump", type=Path, metavar="DUMP", help="a folder in bad_steps/ of a run folder")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda or cuda:1 (default: a GPU if there is one)")
    return parser


def run(arguments: Namespace) -> int:
    """Repeat the step and print the comparison."""
    import torch  # slow imports come after the arguments are checked

    from openrayzer.composer import construct, load_experiment
    from openrayzer.interfaces import InputError
    from openrayzer.training.faults.replay import replay
    from openrayzer.weights.loading import load_model
    from openrayzer.weights.run_layout import EXPERIMENT

    try:
        device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {arguments.device}: {str(error).splitlines()[0]}") from error
    dump = arguments.dump
    planned = load_experiment(dump / EXPERIMENT).plan.arguments
    losses, objective = construct(planned["loss"]), construct(planned["train"].arguments["objective"])
    step = replay(dump, model=load_model(dump), losses=losses, objective=objective, device=device)
    print(f"step {step.step} was skipped: {step.reason}")
    for number, one in enumerate(step.micro_batches):
        print(f"\nmicro-batch {number} (process {one.rank}): loss recorded {one.recorded:.6g}, now {one.loss:.6g}")
        for scene, frames in zip(one.scenes, one.frames, strict=True):
            print(f"  {scene}: frames {', '.join(map(str, frames))}")
        for what, module in (("result", one.first_activation), ("gradient", one.first_gradient)):
            if module:
                print(f"  first {what} that is not finite: {module}")
    print(f"\ngradient norm recorded {step.recorded_norm:.6g}, now {step.norm:.6g}; largest of its modules:")
    for name, norm in islice(step.gradients.items(), LARGEST):
        print(f"  {norm:12.6g}  {name or '(the model itself)'}")
    print("\nthe step agrees with the record" if step.same else "\nthe step does NOT agree with the record")
    return 0 if step.same else 1
