"""Augmentations: random changes of training clips that keep images and cameras consistent."""

from openrayzer.data.augmentations import colour_jitter as colour_jitter
from openrayzer.data.augmentations import copy_paste as copy_paste
from openrayzer.data.augmentations import horizontal_flip as horizontal_flip
from openrayzer.data.augmentations import resize_crop as resize_crop
from openrayzer.data.augmentations import time_reversal as time_reversal
