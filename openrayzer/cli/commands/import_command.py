"""Import weights of a published system into a run folder, or compare its recorded outputs with ours.

    openrayzer import-weights --arch rayzer-official --weights rayzer_dl3dv_8_12_12_96k.pt \\
        --config configs/rayzer_dl3dv.yaml --output runs/rayzer_official
    openrayzer import-weights --arch open-rayzer --weights ckpt.pt --output runs/mine \\
        --given model.transformer.vggstyle=true model.transformer.rope=true unposed.predict_fov=true ...
    openrayzer import-weights --check golden/*.safetensors

`openrayzer train --exp RUN/experiment.json` continues the training of the run folder, `openrayzer export-weights`
exports it, and openrayzer.load_model loads it. If the weights do not show a setting, the message names the setting and
its values; give it with --config or --given. Of a training checkpoint, only the weights are imported. No code in a file
is run.

--check computes every recorded output of golden files and prints its largest absolute difference, for loss and gradient
norm the relative difference. It skips recordings of systems that are not imported, with the reason.

Exit code: 0 done; 1 an output differs by more than its tolerance; 2 wrong input.
"""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from openrayzer.cli import INPUT_WRONG, add_change_arguments, command_parser, print_error
from openrayzer.interfaces import InputError

DIFFERENT = 1
IMPORT_ONLY = ("arch", "weights", "config", "given", "output", "exp", "set", "data")


def run(arguments: Namespace) -> int:
    """Compare golden files or import weights."""
    if arguments.check:
        refused = [f"--{name}" for name in IMPORT_ONLY if getattr(arguments, name)]
        if refused:
            raise InputError(
                f"--check cannot be combined with {', '.join(refused)}: golden files name their system themselves"
            )
        return check(arguments.check, attention=arguments.attention, activation_checkpointing=arguments.checkpointing)
    missing = [f"--{name}" for name in ("arch", "weights", "output") if not getattr(arguments, name)]
    if missing:
        raise InputError(
            f"{', '.join(missing)} must be given to import weights; to compare golden files, --check FILE ..."
        )
    return import_one(arguments)


def import_one(arguments: Namespace) -> int:
    """Import one file and print the result."""
    from openrayzer.composer import SHIPPED
    from openrayzer.weights.interop.importing import import_weights  # slow to import
    from openrayzer.weights.interop.systems import system_named

    system = system_named(arguments.arch)
    report = import_weights(
        system,
        arguments.weights,
        arguments.output,
        base=arguments.exp or SHIPPED / "experiments" / system.experiment,
        config=arguments.config,
        given=arguments.given,
        overrides=arguments.set,
        data_roots=arguments.data,
    )
    for note in report.notes:
        print(f"note: {note}")
    print(f"{arguments.output}: {system.title}, {report.num_weights:,} weights")
    print(f"  use     openrayzer.load_model({str(arguments.output)!r})")
    print(f"  train   openrayzer train --exp {arguments.output / 'experiment.json'} --output runs/NAME")
    return 0


def check(files: list[Path], *, attention: str, activation_checkpointing: int) -> int:
    """Print each recorded output with its difference and tolerance; return the exit code."""
    from openrayzer.weights.interop.golden import BY_RATIO, compare
    from openrayzer.weights.interop.systems import NotImportedError

    failed = refused = skipped = 0
    for file in files:
        try:
            arch, comparisons = compare(file, attention=attention, activation_checkpointing=activation_checkpointing)
        except NotImportedError as error:
            print(f"{file}: skipped: {error}")
            skipped += 1
            continue
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
    print(f"{failed} output(s) beyond their tolerance, {refused} file(s) refused, {skipped} skipped", flush=True)
    return INPUT_WRONG if refused else DIFFERENT if failed else 0


def parser() -> ArgumentParser:
    """The parser of the command."""
    parser = command_parser("import-weights", __doc__)
    parser.add_argument(
        "--arch",
        metavar="NAME",
        help="published system: open-rayzer, rayzer-official, erayzer, lvsm-ed, lvsm-d, efficient-lvsm, uplvsm, "
        "ptlvsm, rayder",
    )
    parser.add_argument("--weights", type=Path, metavar="FILE", help=".pt or .safetensors")
    parser.add_argument("--config", type=Path, metavar="FILE", help="configuration of the published code, YAML or JSON")
    parser.add_argument(
        "--given",
        nargs="+",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="single values of that configuration; they override the file",
    )
    parser.add_argument("--output", type=Path, metavar="RUN", help="run folder to write; must not exist or be empty")
    parser.add_argument(
        "--exp", type=Path, metavar="EXPERIMENT", help="experiment that provides data, loss and training settings"
    )
    add_change_arguments(parser)
    parser.add_argument(
        "--check", nargs="+", type=Path, metavar="FILE", help="golden files to compare with our outputs"
    )
    parser.add_argument("--attention", default="auto", metavar="NAME", help="attention backend for --check")
    parser.add_argument(
        "--checkpointing",
        type=int,
        default=0,
        metavar="N",
        help="recompute every N-th block in the backward pass of --check",
    )
    return parser
