"""Weights of published systems to a run folder, or their recorded outputs beside ours.

    python tools/import_weights.py --arch rayzer-official --weights rayzer_dl3dv_8_12_12_96k.pt \\
        --config configs/rayzer_dl3dv.yaml --output runs/rayzer_official
    python tools/import_weights.py --arch open-rayzer --weights ckpt.pt --output runs/mine \\
        --given model.transformer.vggstyle=true model.transformer.rope=true unposed.predict_fov=true ...
    python tools/import_weights.py --check golden/*.safetensors

The run folder is what tools/train.py trains on (--exp RUN/experiment.json), tools/export_weights.py exports, and
openrayzer.load_model loads. What the weights do not show is asked for by name. Training checkpoints bring their weights
only. No code in a file is ever run.

--check computes every recorded output of golden files and prints the largest absolute difference, of loss and gradient
norm the relative one.

Exit code: 0 done; 1 an output differs by more than its tolerance; 2 something given is wrong.
"""

import argparse
from pathlib import Path

from openrayzer.cli import INPUT_WRONG, add_change_arguments, print_error, run_tool
from openrayzer.interfaces import InputError

DIFFERENT = 1
IMPORT_ONLY = ("arch", "weights", "config", "given", "output", "exp", "set", "data")
EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"


def main() -> int:
    """Parse arguments; check or import."""
    arguments = _parser().parse_args()
    if arguments.check:
        refused = [f"--{name}" for name in IMPORT_ONLY if getattr(arguments, name)]
        if refused:
            raise InputError(
                f"--check takes golden files alone, not {', '.join(refused)}: they say themselves what they are"
            )
        return check(arguments.check, attention=arguments.attention, activation_checkpointing=arguments.checkpointing)
    missing = [f"--{name}" for name in ("arch", "weights", "output") if not getattr(arguments, name)]
    if missing:
        raise InputError(f"{', '.join(missing)} must be given to import weights; or --check FILE ...; see --help")
    return import_one(arguments)


def import_one(arguments: argparse.Namespace) -> int:
    """Import one file and say what came of it."""
    from openrayzer.weights.interop.importing import import_weights  # slow: only once arguments are right
    from openrayzer.weights.interop.systems import system_named

    system = system_named(arguments.arch)
    report = import_weights(
        system,
        arguments.weights,
        arguments.output,
        base=arguments.exp or EXPERIMENTS / system.experiment,
        config=arguments.config,
        given=arguments.given,
        overrides=arguments.set,
        data_roots=arguments.data,
    )
    for note in report.notes:
        print(f"note: {note}")
    print(f"{arguments.output}: {system.title}, {report.num_weights:,} weights")
    print(f"  use     openrayzer.load_model({str(arguments.output)!r})")
    print(f"  train   python tools/train.py --exp {arguments.output / 'experiment.json'} --output runs/NAME")
    return 0


def check(files: list[Path], *, attention: str, activation_checkpointing: int) -> int:
    """Print each recorded output beside its tolerance; 1 if one is beyond it."""
    from openrayzer.weights.interop.golden import BY_RATIO, compare

    failed = refused = 0
    for file in files:
        try:
            arch, comparisons = compare(file, attention=attention, activation_checkpointing=activation_checkpointing)
        except InputError as error:
            print_error(InputError(f"{file}: {error}"))
            refused += 1
            continue
        print(f"{file} ({arch})")
        for row in comparisons:
            kind = "relative" if row.name in BY_RATIO else "absolute"
            verdict = "ok" if row.passed else "FAILED"
            shown = row.remark or f"{row.difference:9.2e} {kind}, tolerance {row.tolerance:g}"
            print(f"  {row.name:<18}{shown:<42}{verdict}")
            failed += not row.passed
    print(f"{failed} output(s) beyond their tolerance, {refused} file(s) refused", flush=True)
    return INPUT_WRONG if refused else DIFFERENT if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--arch", metavar="NAME", help="whose weights: open-rayzer, rayzer-official, lvsm-ed, lvsm-d, rayder"
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help=".pt or .safetensors")
    parser.add_argument("--config", type=Path, metavar="FILE", help="the published code's configuration, YAML or JSON")
    parser.add_argument(
        "--given",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="single values of that configuration, over the file's",
    )
    parser.add_argument("--output", type=Path, metavar="RUN", help="run folder to write; must not exist")
    parser.add_argument(
        "--exp", type=Path, metavar="FILE", help="experiment whose data, loss and training settings the run gets"
    )
    add_change_arguments(parser)
    parser.add_argument("--check", nargs="+", type=Path, metavar="FILE", help="golden files to compare with")
    parser.add_argument(
        "--attention", default="auto", metavar="NAME", help="attention backend that --check computes with"
    )
    parser.add_argument(
        "--checkpointing",
        type=int,
        default=0,
        metavar="N",
        help="recompute every N-th block in the backward pass of --check",
    )
    return parser


if __name__ == "__main__":
    run_tool(main)
