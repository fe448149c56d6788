"""Scene by scene differences of two sides, where the two were judged alike."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import permutation_test

from openrayzer.evaluation.comparison.sides import Side
from openrayzer.evaluation.metrics.intervals import Mean, mean_over_scenes

FLIPS = 9999
"""Random choices of signs beyond which not all are tried."""
SEED = 0
DECIDES = {"image_size": "images of another size", "crop": "another crop"}
"""Settings with another value of which every number is another quantity."""
OF_METRIC = {"ssim": "another SSIM window", "lpips_vgg": "another LPIPS", "lpips_alex": "another LPIPS"}
"""Settings that decide about the metric of the same name."""
SAME_IMAGES = 0.1
"""dB by which the nearest context view may differ if the images are the same, decoded by another library."""
REMARKABLE = ("precision", "protocol")
"""Settings that may differ and are told."""


@dataclass(frozen=True)
class Pair:
    """Second minus first on the scenes that both have.

    Attributes:
        first: number of the side that is subtracted.
        second: number of the side that it is subtracted from.
        differences: by scene, in name order; empty where the two are not alike.
        mean: over the scenes, with its bootstrap interval.
        higher: scenes in which the second is higher.
        lower: scenes in which it is lower; the others are equal.
        p_value: of a two-sided sign-flip permutation test of no difference; None for fewer than 2 scenes.
        obstacles: why the two are not compared.
        notes: what else differs, and which scenes are missing.
    """

    first: int
    second: int
    differences: dict[str, float]
    mean: Mean
    higher: int
    lower: int
    p_value: float | None
    obstacles: tuple[str, ...]
    notes: tuple[str, ...]


def pair(sides: Sequence[Side], first: int, second: int, *, methods: Sequence[str], metric: str) -> Pair:
    """Compare two sides by one metric.

    Args:
        sides: all of them.
        first: number of one.
        second: number of the other.
        methods: which method each side is judged by.
        metric: the metric.
    """
    one, other = sides[first], sides[second]
    values = [side.values(methods[place], metric) for side, place in ((one, first), (other, second))]
    common = sorted(values[0].keys() & values[1].keys())
    obstacles = _obstacles(
        one, other, methods=(methods[first], methods[second]), values=values, common=common, metric=metric
    )
    finite = {scene: (values[0][scene], values[1][scene]) for scene in common}
    kept = {scene: b - a for scene, (a, b) in finite.items() if a is not None and b is not None}
    notes = _notes(one, other, methods=(methods[first], methods[second]), values=values, common=common)
    if left_out := len(common) - len(kept):
        notes.append(f"{left_out} common scenes have a value that is not finite, and are left out")
    if obstacles:
        kept = {}
    changes = np.array(list(kept.values()), np.float64)
    return Pair(
        first,
        second,
        kept,
        mean_over_scenes(list(kept.values()), seed=SEED),
        int((changes > 0).sum()),
        int((changes < 0).sum()),
        sign_flip_p_value(changes) if len(changes) > 1 else None,
        tuple(obstacles),
        tuple(notes),
    )


def sign_flip_p_value(differences: np.ndarray) -> float:
    """Two-sided probability of a mean at least as far from 0 if each difference could as well have the other sign.

    All signs are tried where there are at most ``FLIPS`` ways, else that many random ones.

    Source: Fisher, The Design of Experiments, 1935, section 21.
    """
    result = permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=FLIPS, batch=100, vectorized=True,
        rng=np.random.default_rng(SEED),
    )  # fmt: skip
    return float(result.pvalue)


def _obstacles(
    one: Side,
    other: Side,
    *,
    methods: tuple[str, str],
    values: list[dict[str, float | None]],
    common: list[str],
    metric: str,
) -> list[str]:
    lacking = [
        f"{side.folder} has no {metric} of single scenes by {method}"
        for side, method, has in zip((one, other), methods, values, strict=True)
        if not has
    ]
    if lacking:
        return lacking
    if not common:
        return ["they have no scene in common"]
    found = [
        f"{words}: {one.settings[key]} and {other.settings[key]}"
        for key, words in (*DECIDES.items(), *((key, words) for key, words in OF_METRIC.items() if key == metric))
        if key in one.settings and key in other.settings
        and _kind(key, one.settings[key]) != _kind(key, other.settings[key])
    ]  # fmt: skip
    if unknown := [str(side.folder) for side in (one, other) if not all(scene in side.views for scene in common)]:
        found.append(f"{' and '.join(unknown)} does not say which views it used")
    elif other_views := [scene for scene in common if one.views[scene] != other.views[scene]]:
        count = f"{len(other_views)} of {len(common)} common scenes"
        found.append(f"other context or target views in {count}, e.g. {other_views[0]!r}")
    return found or _other_images(one, other, common)


def _other_images(one: Side, other: Side, common: list[str]) -> list[str]:
    """Scenes of one name are the same scenes only if what looks at no model gets the same number."""
    values = [side.values("nearest_context", "psnr") for side in (one, other)]
    pairs = {scene: (values[0].get(scene), values[1].get(scene)) for scene in common}
    far = [scene for scene, (a, b) in pairs.items() if a is not None and b is not None and abs(a - b) > SAME_IMAGES]
    if not far:
        return []
    a, b = pairs[far[0]]
    return [
        f"other images in {len(far)} of {len(common)} common scenes: the nearest context view of {far[0]!r} has "
        f"{a:.2f} dB and {b:.2f} dB"
    ]


def _kind(key: str, value: object) -> object:
    """What must be equal of a setting: of files of weights, the name."""
    return Path(str(value)).name if key.startswith("lpips_") else value


def _notes(
    one: Side, other: Side, *, methods: tuple[str, str], values: list[dict[str, float | None]], common: list[str]
) -> list[str]:
    notes = []
    if methods[0] != methods[1]:
        notes.append(f"targets are placed in two ways: {methods[0]} and {methods[1]}")
    for side, has in zip((one, other), values, strict=True):
        if common and (more := len(has) - len(common)):
            notes.append(f"{more} of {len(has)} scenes are only in {side.folder}")
    sums = [(side.settings.get("index") or {}).get("sha256") for side in (one, other)]
    if all(sums) and sums[0] != sums[1]:
        notes.append(
            "their index files have different checksums; the views of the common scenes were compared one by one"
        )
    for key in REMARKABLE:
        if key in one.settings and key in other.settings and one.settings[key] != other.settings[key]:
            notes.append(f"{key}: {one.settings[key]} and {other.settings[key]}")
    for key in DECIDES:
        if (key in one.settings) != (key in other.settings):
            notes.append(f"{(other if key in one.settings else one).folder} does not say its {key}")
    return notes
