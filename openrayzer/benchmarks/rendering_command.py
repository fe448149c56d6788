"""Measure how fast each renderer renders many views of one scene, with one view or several views in a call.

    openrayzer benchmark-rendering rayzer_demo
    openrayzer benchmark-rendering lvsm_re10k --targets 4 --rounds 1
    openrayzer benchmark-rendering rayzer_latent_demo --set shared.width=384 model.num_latents=512
    openrayzer benchmark-rendering efficient_lvsm_re10k --growing 4 8 16 32 64
    openrayzer benchmark-rendering --rasterisers 1024 4096

The baseline is "joint", the decoder of LVSM's encoder-decoder and of RayZer, called once per view: the view's tokens
and the whole memory in one sequence. "reading" is a variant, which needs its own training: the view's tokens attend to
a memory that they do not change. The keys and values of this memory are computed once per call, or once per scene if
the scene is prepared. Both give the same images; the last column has the largest difference of a pixel.

With --growing, the tool instead adds one view to prepared scenes of the given numbers of views and renders 8 targets,
beside the model of --against, which starts from scratch: by default LVSM's decoder-only variant.

With --rasterisers, the tool measures the rasterisers of 3D Gaussians instead, on 8 scenes (--batch) with 3 context
views of the given numbers of Gaussians each, and 3 targets. It takes no experiment.
"""

import time
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path

from openrayzer.cli import add_change_arguments, command_parser
from openrayzer.interfaces import InputError


def parser() -> ArgumentParser:
    """The parser of the command."""
    parser = command_parser("benchmark-rendering", __doc__)
    parser.add_argument(
        "experiment",
        type=Path,
        nargs="?",
        default=None,
        metavar="EXPERIMENT",
        help="experiment, a file or a name, of a model with a renderer",
    )
    add_change_arguments(parser)
    parser.add_argument(
        "--contexts", type=int, default=16, metavar="N", help="context views of the scene (default: 16)"
    )
    parser.add_argument(
        "--targets",
        type=int,
        default=None,
        metavar="N",
        help="views to render (default: 60; with --growing: 8; with --rasterisers: 3)",
    )
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="views in a call (default: 8)")
    parser.add_argument(
        "--rounds", type=int, default=3, metavar="N", help="number of rounds; the median counts (default: 3)"
    )
    parser.add_argument("--float32", action="store_true", help="compute in float32 instead of bfloat16")
    parser.add_argument(
        "--growing", type=int, nargs="+", default=None, metavar="N", help="numbers of views that get one more view"
    )
    parser.add_argument(
        "--against",
        type=Path,
        default=Path("lvsm_decoder_re10k"),
        metavar="EXPERIMENT",
        help="experiment of the model that starts from scratch (default: LVSM's decoder-only variant)",
    )
    parser.add_argument(
        "--processor_time", action="store_true", help="with --growing or --rasterisers on a CPU, measure processor time"
    )
    parser.add_argument(
        "--rasterisers", type=int, nargs="+", default=None, metavar="N", help="numbers of Gaussians of a context view"
    )
    parser.add_argument(
        "--image_size", type=int, default=64, metavar="PIXELS", help="side of the images of --rasterisers (default: 64)"
    )
    parser.add_argument("--output", type=Path, default=None, metavar="FILE", help="write the measurements as JSON")
    return parser


def run(arguments: Namespace) -> int:
    """Measure and print the table."""
    if arguments.rasterisers is not None:
        return _rasterisers(arguments)
    if arguments.experiment is None:
        raise InputError("give an experiment, or --rasterisers 1024 4096")
    if arguments.growing is not None:
        return _growing(arguments)
    from openrayzer.benchmarks.rendering_speed import measure
    from openrayzer.data.preparing.folders import write_json

    found = measure(
        arguments.experiment,
        overrides=arguments.set,
        contexts=arguments.contexts,
        targets=60 if arguments.targets is None else arguments.targets,
        batch=arguments.batch,
        rounds=arguments.rounds,
        bf16=not arguments.float32,
    )
    print(f"{'renderer':<38}{'weights':>12}{'ms per view':>13}{'minimum':>9}{'times as fast':>15}{'difference':>12}")
    for line in found:
        each, minimum = (seconds / line.views * 1e3 for seconds in (line.seconds.median, line.seconds.minimum))
        print(
            f"{line.name:<38}{line.weights:>12,}{each:>13.2f}{minimum:>9.2f}{line.faster:>15.2f}{line.difference:>12.1e}"
        )
    if arguments.output is not None:
        write_json(arguments.output, [asdict(line) for line in found])
    return 0


def _growing(arguments: Namespace) -> int:
    """Measure growing scenes and print the table."""
    from openrayzer.benchmarks.growing_speed import measure_growth
    from openrayzer.data.preparing.folders import write_json

    found = measure_growth(
        arguments.experiment,
        arguments.against,
        overrides=arguments.set,
        views=arguments.growing,
        targets=8 if arguments.targets is None else arguments.targets,
        rounds=arguments.rounds,
        bf16=not arguments.float32,
        clock=time.process_time if arguments.processor_time else time.perf_counter,
    )
    titles = ("views", "extended, ms", "from scratch, ms", "times as fast", "scene, MB", "difference")
    print("".join(f"{title:>{len(title) + 2}}" for title in titles))
    for line in found:
        extended, scratch = line.extended.median * 1e3, line.scratch.median * 1e3
        cells = [f"{line.views}", f"{extended:.1f}", f"{scratch:.1f}", f"{line.faster:.1f}"]
        cells += [f"{line.scene_bytes / 1e6:.1f}", f"{line.difference:.1e}"]
        print("".join(f"{cell:>{len(title) + 2}}" for cell, title in zip(cells, titles, strict=True)))
    if arguments.output is not None:
        write_json(arguments.output, [asdict(line) | {"faster": line.faster} for line in found])
    return 0


def _rasterisers(arguments: Namespace) -> int:
    """Measure rasterisers and print the table."""
    from openrayzer.benchmarks.rasteriser_speed import measure_rasterisers
    from openrayzer.data.preparing.folders import write_json

    found = measure_rasterisers(
        arguments.rasterisers,
        size=arguments.image_size,
        targets=3 if arguments.targets is None else arguments.targets,
        batch=arguments.batch,
        rounds=arguments.rounds,
        clock=time.process_time if arguments.processor_time else time.perf_counter,
    )
    titles = ("Gaussians", "forward, ms", "with backward, ms", "difference", "gradients")
    print(f"{'rasteriser':<12}" + "".join(f"{title:>{len(title) + 2}}" for title in titles))
    for line in found:
        cells = [f"{line.gaussians:,}"]
        if line.forward is not None and line.step is not None:
            cells += [f"{timing.median * 1e3:.1f}" for timing in (line.forward, line.step)]
            cells += [f"{line.difference:.1e}", f"{line.gradient:.1e}"]
        row = "".join(f"{cell:>{len(title) + 2}}" for cell, title in zip(cells, titles, strict=False))
        print(f"{line.name:<12}{row}  {line.refusal}".rstrip())
    if arguments.output is not None:
        write_json(arguments.output, [asdict(line) for line in found])
    return 0
