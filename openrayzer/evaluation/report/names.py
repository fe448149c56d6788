"""How methods and metrics are called, written and drawn; unknown ones as they call themselves."""

from dataclasses import dataclass

DASH, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
EXCHANGED = "_exchanged_cameras"
"""Ends the name of a placement whose target cameras were exchanged among the targets."""


@dataclass(frozen=True)
class Metric:
    """How a number is written.

    Attributes:
        label: name and unit.
        decimals: digits behind the point.
        better: ``higher``, ``lower``, or empty where neither is.
        short: in captions of pictures.
    """

    label: str
    decimals: int
    better: str = ""
    short: str = ""


METRICS = {
    "psnr": Metric("PSNR, dB", 2, "higher", "PSNR"),
    "ssim": Metric("SSIM", 3, "higher", "SSIM"),
    "lpips_vgg": Metric("LPIPS, VGG", 3, "lower", "LPIPS"),
    "lpips_alex": Metric("LPIPS, AlexNet", 3, "lower", "LPIPS-A"),
    "rotation_error_deg": Metric("Rotation error, °", 2, "lower"),
    "translation_error": Metric("Translation error", 3, "lower"),
    "focal_error": Metric("Focal error", 3, "lower"),
}
POSE_MEASURES = {
    "rra": "RRA",
    "rta": "RTA",
    "rta_unfolded": "RTA unfolded",
    "rpa": "RPA",
    "auc": "AUC",
    "rotation": "Rotation",
    "translation": "Translation",
}
METHODS = {
    "given_poses": "Given poses",
    "joint": "Joint",
    "context_only": "Context only",
    "nearest_context": "Nearest context view",
    "mean_context": "Mean of context views",
    "constant_pose": "Constant pose",
    "straight_line": "Straight line",
    "random_poses": "Random poses",
}


def metric(name: str) -> Metric:
    """How the metric ``name`` is written."""
    measure, at, threshold = name.partition("@")
    if at and measure in POSE_MEASURES:
        return Metric(f"{POSE_MEASURES[measure]} @ {threshold}°", 3, "higher")
    return METRICS.get(name, Metric(name.replace("_", " "), 3))


def method(name: str) -> str:
    """How the method ``name`` is called."""
    if name.endswith(EXCHANGED):
        return f"{method(name.removesuffix(EXCHANGED))}, cameras exchanged"
    return METHODS.get(name, name.replace("_", " "))


def kind(name: str, placements: tuple[str, ...]) -> str:
    """Class by which a method is coloured: a placement's own name where it has a colour, or ``baseline``."""
    if name not in placements:
        return "baseline"
    return name if name in METHODS else "other"


def written(value: float | None, decimals: int, *, sign: bool = False) -> str:
    """A number for a person; a dash for none. A real minus sign; no minus before zero."""
    if value is None:
        return DASH
    text = f"{value:+.{decimals}f}" if sign else f"{value:.{decimals}f}"
    if not text.strip("+-0."):
        text = text.lstrip("+-")
    return text.replace("-", MINUS)
