"""Images and rays to tokens; each file registers one fusion."""

from openrayzer.fusion import pixel as pixel
from openrayzer.fusion import residual_mlp as residual_mlp
from openrayzer.fusion import token_mlp as token_mlp
