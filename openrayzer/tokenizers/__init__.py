"""Images to tokens; each file registers one tokenizer."""

from openrayzer.tokenizers import linear as linear
