"""The limits of the operators of xformers, and the log of the choice of ``auto``."""

import logging

import pytest
import torch

from openrayzer.components.attention import auto
from openrayzer.components.attention.xformers import operator_refusal
from openrayzer.interfaces import ATTENTION_BACKENDS


@pytest.mark.parametrize(
    ("capability", "dtype", "head_width", "refusal"),
    [
        ((8, 0), torch.bfloat16, 64, ""),
        ((9, 0), torch.bfloat16, 64, ""),
        ((9, 0), torch.float32, 64, ""),
        ((10, 0), torch.bfloat16, 64, ""),
        ((7, 0), torch.float16, 64, ""),
        ((7, 0), torch.bfloat16, 64, "bfloat16 needs compute capability 8.0, this device has 7.0"),
        ((8, 0), torch.bfloat16, 60, "multiple of 8, got 60"),
        ((8, 0), torch.float32, 60, ""),
        ((8, 0), torch.float32, 62, "multiple of 4, got 62"),
        ((10, 0), torch.float32, 64, "float32 works up to compute capability 9.0"),
        ((8, 0), torch.float64, 64, "it takes float32, float16 and bfloat16"),
    ],
)
def test_the_rules_of_xformers_are_the_limits_of_its_operators(capability, dtype, head_width, refusal):
    refused = operator_refusal(capability=capability, dtype=dtype, head_width=head_width)
    assert refusal in refused
    assert bool(refused) == bool(refusal)


def test_auto_logs_its_choice_once_with_the_reason(caplog):
    auto._reported_choice.cache_clear()  # an earlier test may have filled it
    backend = ATTENTION_BACKENDS["auto"]()
    query = torch.randn(2, 4, 3, 16)
    with caplog.at_level(logging.INFO, logger="openrayzer"):
        backend.attend(query, query, query)
        backend.attend(query, query, query)
    assert len(caplog.records) == 1
    assert "xformers: its operators need a CUDA device" in caplog.text
