"""Formulas of the losses, and the weight files of the losses with networks."""

from pathlib import Path

import examples
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from scipy.io import loadmat, savemat
from skimage.metrics import structural_similarity
from torch import Tensor

from openrayzer.components.losses import matconvnet
from openrayzer.interfaces import LOSSES, InputError
from openrayzer.layers import lpips as lpips_layer


@pytest.fixture(scope="session")
def vgg19() -> dict[str, Tensor]:
    return examples.vgg19_weights()


@pytest.fixture(scope="session")
def vgg19_mat(example_files: Path) -> Path:
    return examples.vgg19_mat(example_files)


@pytest.fixture(scope="session")
def alexnet(example_files: Path) -> Path:
    return examples.alexnet(example_files)


def images(seed: int, height: int = 32, width: int = 48) -> Tensor:
    return torch.rand(2, 2, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_mse_and_l1_by_hand():
    prediction, target = torch.full((1, 1, 3, 4, 4), 0.75), torch.full((1, 1, 3, 4, 4), 0.25)
    assert LOSSES["mse"]()(prediction, target).item() == pytest.approx(0.25)
    assert LOSSES["l1"]()(prediction, target).item() == pytest.approx(0.5)


def test_ssim_loss_is_1_minus_that_of_scikit_image():
    prediction, target = images(6), images(7)
    values = [
        structural_similarity(x.numpy(), y.numpy(), win_size=11, gaussian_weights=True, channel_axis=0, data_range=1)
        for x, y in zip(prediction.flatten(0, 1), target.flatten(0, 1), strict=True)
    ]
    assert LOSSES["ssim"]()(prediction, target).item() == pytest.approx(1 - np.mean(values), abs=1e-4)


def perceptual_by_hand(state: dict[str, Tensor], prediction: Tensor, target: Tensor) -> Tensor:
    """The formula, layer by layer, with torchvision's layer numbers."""
    mean = torch.tensor([123.68, 116.779, 103.939]).view(1, 3, 1, 1)
    x, y = (image.flatten(0, 1) * 255 - mean for image in (prediction, target))
    total, scales = (x - y).abs().mean(), {3: 2.6, 8: 4.8, 13: 3.7, 22: 5.6, 31: 0.15}
    for layer in range(32):
        if layer in (4, 9, 18, 27):
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        elif f"features.{layer}.weight" in state:
            weight, bias = state[f"features.{layer}.weight"], state[f"features.{layer}.bias"]
            x, y = F.conv2d(x, weight, bias, padding=1), F.conv2d(y, weight, bias, padding=1)
        else:
            x, y = F.relu(x), F.relu(y)
        if layer in scales:
            total = total + (x - y).abs().mean() / scales[layer]
    return total / 255


def test_perceptual_follows_the_formula(vgg19: dict[str, Tensor], vgg19_mat: Path):
    loss = LOSSES["perceptual"](weights=vgg19_mat)
    prediction, target = images(8), images(9)
    torch.testing.assert_close(loss(prediction, target), perceptual_by_hand(vgg19, prediction, target))


def test_perceptual_in_bfloat16_is_close_to_float32_in_value_and_gradient(vgg19_mat: Path):
    target = F.avg_pool2d(images(9, 64, 64).flatten(0, 1), 5, 1, 2).unflatten(0, (2, 2))
    wrong = target + 0.1 * torch.randn(target.shape, generator=torch.Generator().manual_seed(1))  # 20 dB
    found = {}
    for precision in ("float32", "bfloat16", "auto"):
        loss, prediction = LOSSES["perceptual"](weights=vgg19_mat, precision=precision), wrong.clone().requires_grad_()
        value = loss(prediction, target)
        value.backward()
        assert value.dtype == torch.float32
        found[precision] = value.detach(), prediction.grad
    (value, gradient), (rounded, rounded_gradient) = found["float32"], found["bfloat16"]
    assert 0 < abs(rounded / value - 1) < 5e-3
    assert not torch.equal(gradient, rounded_gradient)
    assert F.cosine_similarity(gradient.flatten(), rounded_gradient.flatten(), dim=0) > 0.99
    assert torch.equal(found["auto"][0], value)  # on a CPU


@pytest.mark.parametrize(
    ("available", "able", "expected"), [(True, True, True), (True, False, False), (False, False, True)]
)
def test_perceptual_uses_bfloat16_on_gpus_that_compute_in_it(
    vgg19_mat: Path, monkeypatch: pytest.MonkeyPatch, available: bool, able: bool, expected: bool
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: able)
    loss, gpu = LOSSES["perceptual"](weights=vgg19_mat), torch.device("cuda")
    assert loss._rounds(gpu) is expected
    assert loss._rounds(torch.device("cpu")) is False
    assert LOSSES["perceptual"](weights=vgg19_mat, precision="float32")._rounds(gpu) is False


def test_convolution_weights_of_the_perceptual_loss_are_channels_last(vgg19_mat: Path):
    weights = [weight for weight in LOSSES["perceptual"](weights=vgg19_mat).parameters() if weight.ndim == 4]
    assert weights
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_perceptual_reads_converted_weights(suffix: str, vgg19: dict[str, Tensor], vgg19_mat: Path, tmp_path: Path):
    path = tmp_path / f"vgg{suffix}"
    content = vgg19 | {"classifier.0.weight": torch.zeros(3, 3)}
    save_file(content, path) if suffix == ".safetensors" else torch.save(content, path)
    converted, published = LOSSES["perceptual"](weights=path), LOSSES["perceptual"](weights=vgg19_mat)
    assert all(map(torch.equal, converted.parameters(), published.parameters()))


def test_the_target_gets_no_gradient(small):
    for name in ("perceptual", "lpips"):
        prediction, target = images(10).requires_grad_(), images(11).requires_grad_()
        small(LOSSES, name)(prediction, target).backward()
        assert prediction.grad is not None
        assert target.grad is None


def test_the_error_for_a_missing_vgg_file_names_the_right_file(tmp_path: Path):
    with pytest.raises(InputError) as caught:
        LOSSES["perceptual"](weights=tmp_path / "vgg.mat")
    message = str(caught.value)
    assert str(tmp_path / "vgg.mat") in message
    assert "imagenet-vgg-verydeep-19.mat" in message
    assert "torchvision's ImageNet VGG-19 is a different model" in message


def test_the_meta_device_needs_no_vgg_file(tmp_path: Path):
    with torch.device("meta"):
        assert LOSSES["perceptual"](weights=str(tmp_path / "vgg.mat")).network is not None


def test_a_damaged_mat_file_is_an_error(vgg19_mat: Path, tmp_path: Path):
    whole, path = vgg19_mat.read_bytes(), tmp_path / "damaged.mat"
    for length in (0, 1, 100, 128, 130, 140, 1000, 9000, len(whole) // 2, len(whole) - 5):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"damaged\.mat"):
            LOSSES["perceptual"](weights=path)
    path.write_bytes(b"<html>404</html>" * 1000)
    with pytest.raises(InputError, match=r"cannot be read as a \.mat file"):
        LOSSES["perceptual"](weights=path)


def test_a_mat_file_with_another_layout_is_an_error(vgg19_mat: Path, tmp_path: Path):
    path = tmp_path / "other.mat"
    savemat(path, {"net": np.zeros(3)})
    with pytest.raises(InputError, match="has no variable 'layers'"):
        LOSSES["perceptual"](weights=path)
    savemat(path, {"layers": examples.mat_layers({})})
    with pytest.raises(InputError, match="layer 0 holds no kernel and bias"):
        LOSSES["perceptual"](weights=path)
    layers = loadmat(vgg19_mat)["layers"]
    layers[0, 2] = layers[0, 5]
    savemat(path, {"layers": layers})
    with pytest.raises(
        InputError, match=r"features\.2\.weight has shape \(128, 64, 3, 3\) instead of \(64, 64, 3, 3\)"
    ):
        LOSSES["perceptual"](weights=path)


def test_a_converted_file_with_other_content_is_an_error(
    vgg19: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "vgg.pt"
    torch.save({"features.0.weight": torch.full((64, 3, 3, 3), torch.nan)}, path)
    with pytest.raises(InputError, match=r"features\.0\.weight has values that are not finite.* and 22 more"):
        LOSSES["perceptual"](weights=path)
    torch.save([1, 2], path)
    with pytest.raises(InputError, match="dictionary of tensors"):
        LOSSES["perceptual"](weights=path)
    path.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="cannot be read as a file of weights"):
        LOSSES["perceptual"](weights=path)
    monkeypatch.setattr(matconvnet, "_TORCHVISION_SHA256", "")
    with pytest.raises(InputError, match="is torchvision's ImageNet VGG-19"):
        LOSSES["perceptual"](weights=path)


def lpips_by_hand(state: dict[str, Tensor], heads: dict[str, Tensor], prediction: Tensor, target: Tensor) -> Tensor:
    """LPIPS with AlexNet: five ReLUs, unit vectors over channels, squared differences, heads, mean over pixels."""
    shift, scale = (torch.tensor(v).view(1, 3, 1, 1) for v in ((-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)))
    x, y = ((image.flatten(0, 1) * 2 - 1 - shift) / scale for image in (prediction, target))
    total = torch.zeros(())
    for number, (index, _, _, side) in enumerate(examples.ALEXNET):
        if number in (1, 2):
            x, y = F.max_pool2d(x, 3, 2), F.max_pool2d(y, 3, 2)
        weight, bias = state[f"features.{index}.weight"], state[f"features.{index}.bias"]
        stride, padding = (4, 2) if number == 0 else (1, side // 2)
        x, y = (F.relu(F.conv2d(z, weight, bias, stride=stride, padding=padding)) for z in (x, y))
        difference = (F.normalize(x, dim=1) - F.normalize(y, dim=1)) ** 2
        total = total + F.conv2d(difference, heads[f"lin{number}.model.1.weight"]).mean()
    return total


def test_lpips_uses_the_backbone_file_and_the_calibrated_heads(alexnet: Path):
    import lpips

    heads = torch.load(Path(lpips.__file__).parent / "weights" / "v0.1" / "alex.pth", "cpu", weights_only=True)
    prediction, target = images(12, 64, 80), images(13, 64, 80)
    expected = lpips_by_hand(torch.load(alexnet, weights_only=True), heads, prediction, target)
    loss = LOSSES["lpips"](backbone=str(alexnet), net="alex")
    torch.testing.assert_close(loss(prediction, target), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("net", "file"), [("vgg", "vgg16-397923af.pth"), ("alex", "alexnet-owt-7be5be79.pth")])
def test_the_error_for_a_missing_backbone_names_the_right_file(net: str, file: str, tmp_path: Path):
    with pytest.raises(InputError, match=f"does not exist; get https://download.pytorch.org/models/{file}"):
        LOSSES["lpips"](backbone=tmp_path / "missing.pth", net=net)


def test_a_backbone_file_of_another_network_is_an_error(alexnet: Path):
    with pytest.raises(InputError, match=r"features\.0\.weight has shape \(64, 3, 11, 11\) .*/vgg16-397923af\.pth"):
        LOSSES["lpips"](backbone=alexnet)


def test_the_log_warns_of_unknown_backbone_weights(alexnet: Path, caplog: pytest.LogCaptureFixture, monkeypatch):
    LOSSES["lpips"](backbone=alexnet, net="alex")
    assert "is not torchvision's alexnet-owt-7be5be79.pth" in caplog.text
    caplog.clear()
    monkeypatch.setitem(lpips_layer._FILES, "alex", "alexnet-.pth")
    LOSSES["lpips"](backbone=alexnet, net="alex")
    assert not caplog.text


@pytest.mark.parametrize(("name", "side"), [("ssim", 10), ("perceptual", 15), ("lpips", 30)])
def test_the_error_for_small_images_has_their_size(name: str, side: int, small):
    loss = small(LOSSES, name)
    with pytest.raises(InputError, match=f"{side} x 64"):
        loss(images(0, side, 64), images(1, side, 64))
    assert loss(images(0, side + 1, 64), images(1, side + 1, 64)).isfinite()
