"""Images to tokens; each file registers one tokenizer."""

from openrayzer.tokenizers import dinov3 as dinov3
from openrayzer.tokenizers import linear as linear
