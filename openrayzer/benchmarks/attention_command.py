"""Measure attention backends in turn, on the calls of view synthesis models.

    openrayzer benchmark-attention
    openrayzer benchmark-attention --views 4 16 --tokens 256 --heads 12x64 6x128 --dtypes bfloat16
    openrayzer benchmark-attention --output speed/attention

The calls:

- global: all tokens of all views
- frame: the tokens of each view
- latents: a memory together with all context tokens
- target with scene: each target view in one sequence with the memory, as in LVSM
- target with cached scene: the tokens of all target views as queries, the memory as keys and values

The backends of a call take turns. GFLOP/s count the operations of the formula, 4 b h n m e forward and three times that
with backward. MiB is the peak memory of a call without its arguments. The error is the largest difference from the
formula in float32, relative to the largest value; with backward it is the error of the gradients.

The last lines compare the choice of auto with the fastest backend. If auto is slower on your GPU, correct the table in
openrayzer/components/attention/preference.py.
"""

import logging
import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

from openrayzer.cli import command_parser
from openrayzer.interfaces import InputError


def run(arguments: Namespace) -> int:
    """Measure and print the table."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # silences PyTorch's profiler, which measures memory
    import torch

    from openrayzer.benchmarks.attention_report import plot, table, verdicts
    from openrayzer.benchmarks.attention_speed import calls_of, measure
    from openrayzer.components.attention.auto import AutoAttention
    from openrayzer.data.preparing.folders import write_json

    if arguments.device not in ("", "cpu", "cuda") or (arguments.device == "cuda" and not torch.cuda.is_available()):
        raise InputError(f"there is no device {arguments.device!r} on this machine")
    device = torch.device(arguments.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    calls = [
        call
        for views, tokens, (heads, head_width), dtype in product(
            arguments.views, arguments.tokens, map(_heads, arguments.heads), arguments.dtypes
        )
        for call in calls_of(
            views=views, tokens=tokens, latents=arguments.latents, heads=heads, head_width=head_width, dtype=dtype,
            batch=arguments.batch,
        )
    ]  # fmt: skip
    figures = list(measure(calls, device=device, rounds=arguments.rounds))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    print("\n".join(table(figures)), flush=True)
    for call in {(call.dtype, call.head_width): call for call in calls}.values():
        query, key, _ = call.tensors(device)
        AutoAttention().choose(query, key)  # logs its choice and the reasons against the other backends
    print("\n".join(verdicts(figures)), flush=True)
    if arguments.output is not None:
        write_json(arguments.output.with_suffix(".json"), [asdict(figure) for figure in figures])
        plot(figures, arguments.output.with_suffix(".png"))
    return 0


def _heads(text: str) -> tuple[int, int]:
    heads, _, width = text.partition("x")
    if not (heads.isdigit() and width.isdigit() and int(heads) and int(width)):
        raise InputError(f"--heads takes NUMBERxWIDTH, e.g. 12x64, got {text!r}")
    return int(heads), int(width)


def parser() -> ArgumentParser:
    """The parser of the command."""
    parser = command_parser("benchmark-attention", __doc__)
    counts: dict[str, Any] = {"type": _positive, "metavar": "N"}
    parser.add_argument("--views", nargs="+", default=[4, 8], help="number of views (default: 4 8)", **counts)
    parser.add_argument("--tokens", nargs="+", default=[64, 256], help="tokens of one view (default: 64 256)", **counts)
    parser.add_argument("--latents", default=512, help="tokens of the memory (default: 512)", **counts)
    parser.add_argument("--batch", default=1, help="number of clips (default: 1)", **counts)
    parser.add_argument(
        "--heads",
        nargs="+",
        default=["6x64"],
        metavar="NUMBERxWIDTH",
        help="number of heads and their width (default: 6x64)",
    )
    parser.add_argument(
        "--dtypes",
        nargs="+",
        default=["float32", "bfloat16"],
        choices=["float32", "bfloat16", "float16"],
        help="dtypes of the calls (default: float32 bfloat16)",
    )
    parser.add_argument("--device", default="", help="cpu or cuda (default: cuda if available)")
    parser.add_argument("--rounds", default=5, help="number of rounds; the median counts (default: 5)", **counts)
    parser.add_argument("--output", type=Path, metavar="NAME", help="write NAME.json and NAME.png")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or not int(text):
        raise ArgumentTypeError(f"must be 1 or more, got {text!r}")
    return int(text)
