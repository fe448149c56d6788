"""Peak rates of GPUs from NVIDIA's data sheets, and the shares of these rates that kernels reach."""

from dataclasses import dataclass

from openrayzer.interfaces import InputError


@dataclass(frozen=True)
class Gpu:
    """Peak rates of one GPU from its data sheet, without sparsity.

    Attributes:
        title: name of the GPU.
        bandwidth: bytes a second from and to its memory.
        bf16: operations a second of matrix products in bfloat16, summed in float32.
        tf32: operations a second of matrix products in TF32.
        float32: operations a second in float32 without TF32.
        memory: bytes of its memory.
        link: bytes a second in one direction to other GPUs of the same node: NVLink, or PCIe where there is none.
    """

    title: str
    bandwidth: float
    bf16: float
    tf32: float
    float32: float
    memory: float
    link: float


GPUS = {
    "a100": Gpu("A100 SXM 80 GB", 2.039e12, 312e12, 156e12, 19.5e12, 80e9, 300e9),
    "h100": Gpu("H100 SXM", 3.35e12, 989e12, 494e12, 67e12, 80e9, 450e9),
    "h200": Gpu("H200 SXM", 4.8e12, 989e12, 494e12, 67e12, 141e9, 450e9),
    "b200": Gpu("B200 SXM", 7.7e12, 2250e12, 1100e12, 75e12, 180e9, 900e9),
    "l40s": Gpu("L40S", 0.864e12, 362e12, 183e12, 91.6e12, 48e9, 32e9),
    "rtx4090": Gpu("GeForce RTX 4090", 1.008e12, 165.2e12, 82.6e12, 82.6e12, 24e9, 32e9),
}
"""Sources: NVIDIA's data sheets "A100 Tensor Core GPU", "H100 Tensor Core GPU", "H200 Tensor Core GPU", "HGX B200" (an
eighth of its eight GPUs) and "L40S", and the white paper "NVIDIA Ada GPU Architecture". NVLink is half of the
stated rate, which is that of both directions; PCIe 4.0 x16 has 32 GB/s."""

PRODUCT_SHARE = 0.66
"""Share of the peak rate for large matrix products: cuBLAS in bfloat16 reaches 600 to 700 of an H100's 989 TFLOP/s."""
ATTENTION_SHARE = 0.36
"""Share of the peak rate for FlashAttention-2, which PyTorch and xformers call. Source: Shah et al. 2024,
"FlashAttention-3", introduction: 35 % of an H100."""
CONVOLUTION_SHARE = 0.5
"""Share of the peak rate for convolutions with channels last; an assumption. Images in NCHW are transposed
before and after."""
BANDWIDTH_SHARE = 0.9
"""Share of the bandwidth for elementwise kernels; an assumption."""
LAUNCH = 2e-6
"""Seconds for each kernel launch."""


def gpu_named(name: str) -> Gpu:
    """One of ``GPUS``.

    Raises:
        InputError: the name is unknown.
    """
    if name not in GPUS:
        raise InputError(f"no GPU named {name!r}; known: {', '.join(GPUS)}")
    return GPUS[name]
