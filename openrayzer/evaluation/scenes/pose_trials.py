"""The sanity battery and the transfer of cameras on all scenes, and their tables in metrics.json."""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, replace
from typing import Any

import torch

from openrayzer.evaluation.placements import PLACEMENTS
from openrayzer.evaluation.results.scene_result import SceneResult
from openrayzer.evaluation.trials.sanity import CHECKS, left_out, sanity_battery
from openrayzer.evaluation.trials.transfer import TransferResult, transfer
from openrayzer.interfaces import InputError, Model
from openrayzer.types import Cameras, Views

_NUMBERS = ("psnr_change", "rotation_deg", "direction_deg", "centre_change")

Autocast = Callable[[], AbstractContextManager]


@torch.no_grad()
def sanity_of(
    model: Model, views: Views, placements: Sequence[str], autocast: Autocast
) -> dict[str, dict[str, dict[str, Any]]]:
    """Placement -> sanity check -> its result for one clip."""
    table = {}
    for name in placements:
        with autocast():
            results = sanity_battery(model, views, placement=PLACEMENTS[name])
        table[name] = {
            result.check: {key: value for key, value in asdict(result).items() if key not in ("check", "scene")}
            for result in results
        }
    return table


def sanity_notes(views: Views, placements: Sequence[str]) -> list[str]:
    """A sentence for each sanity check that does not apply to the clips of a batch."""
    return [
        f"sanity battery, {name}: {check} is left out: {reason}"
        for name in placements
        for check, reason in left_out(views, placement=PLACEMENTS[name]).items()
    ]


def sanity_table(results: Sequence[SceneResult]) -> dict[str, Any] | None:
    """Placement -> sanity check -> means over scenes, share of passed scenes, description; None without results."""
    table: dict[str, Any] = {}
    for result in results:
        for placement, checks in result.sanity.items():
            for check in checks:
                table.setdefault(placement, {}).setdefault(check, {})
    for placement, checks in table.items():
        for check in checks:
            rows = [row for result in results if (row := result.sanity.get(placement, {}).get(check))]
            checks[check] = {name: _mean(row[name] for row in rows) for name in _NUMBERS}
            checks[check] |= {
                "passed": sum(row["passed"] for row in rows) / len(rows),
                "scenes": len(rows),
                "change": CHECKS[check].change,
                "true_poses": CHECKS[check].true_poses,
                "shortcut": CHECKS[check].shortcut,
            }
    return table or None


@torch.no_grad()
def transfers_of(
    model: Model, views: Views, placements: Sequence[str], autocast: Autocast, *, oracle: Model | None = None
) -> dict[str, list[TransferResult]]:
    """Transfer in both directions between the two clips of a pair, by placement; empty for a single clip.

    Args:
        model: renders the clips.
        views: the pair.
        placements: names of the placements.
        autocast: precision of the models.
        oracle: estimates the motion from images; None for ``model``.

    Raises:
        InputError: the model cannot estimate the motion, or the clips have a single target.
    """
    if len(views.scenes) < 2:
        return {}
    table = {}
    for name in placements:
        with autocast():
            table[name] = transfer(
                model, _exchanged(views), views, placement=PLACEMENTS[name], oracle=oracle and oracle.estimate
            )
    return table


def transfer_table(transfers: Iterable[dict[str, list[TransferResult]]], *, oracle: str) -> dict[str, Any] | None:
    """Placement -> means over pairs of the scores with and without transfer; None without results.

    Args:
        transfers: results of each pair.
        oracle: run of the model that estimated the motion; empty for the evaluated model.
    """
    by_placement: dict[str, list[TransferResult]] = {}
    for table in transfers:
        for name, results in table.items():
            by_placement.setdefault(name, []).extend(results)
    if not by_placement:
        return None
    summary: dict[str, Any] = {
        "oracle": oracle or "the evaluated model itself, which may overestimate its own scores",
        "pairs": max(map(len, by_placement.values())),
    }
    for name, results in by_placement.items():
        summary[name] = {
            "driven": _means([result.metrics for result in results]),
            "undriven": _means([result.undriven for result in results]),
        }
    return summary


def refuse_transfer(model: Model, choices: Iterable[Any], *, oracle: Model | None = None) -> None:
    """Check that transfer can be measured.

    Raises:
        InputError: the oracle needs poses or intrinsics, or no scene has 2 targets.
    """
    if oracle is not None and (oracle.posed or oracle.needs_intrinsics):
        given = "poses" if oracle.posed else "intrinsics"
        raise InputError(
            f"--transfer_oracle must estimate cameras from images alone; {type(oracle).__name__} is given {given}"
        )
    if oracle is None and model.posed:
        raise InputError(
            f"--transfer needs a model that estimates cameras; {type(model).__name__} is given them, so name another "
            "model with --transfer_oracle DIR"
        )
    if all(len(choice.target) < 2 for choice in choices):
        raise InputError("--transfer needs scenes with 2 targets or more")


def _exchanged(views: Views) -> Views:
    """The two clips of a pair in the other order."""
    order = torch.tensor([1, 0], device=views.frames.device)
    cameras = views.cameras
    return replace(
        views,
        images=views.images[order],
        frames=views.frames[order],
        context=views.context[order],
        target=views.target[order],
        scenes=views.scenes[::-1],
        cameras=cameras and Cameras(cameras.c2w[order], cameras.intrinsics[order]),
        clean=None if views.clean is None else views.clean[order],
    )


def _means(rows: Sequence[dict[str, float]]) -> dict[str, float | None]:
    return {metric: _mean(row[metric] for row in rows) for metric in rows[0]}


def _mean(values: Iterable[float]) -> float | None:
    """Mean of the finite values, independent of their order; None if there is none."""
    finite = [value for value in values if math.isfinite(value)]
    return math.fsum(finite) / len(finite) if finite else None
