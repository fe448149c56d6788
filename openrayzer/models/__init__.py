"""Models: whole methods, made of components through their interfaces. Each file registers one model."""

from openrayzer.models import efficient_lvsm as efficient_lvsm
from openrayzer.models import erayzer as erayzer
from openrayzer.models import lvsm_decoder_only as lvsm_decoder_only
from openrayzer.models import lvsm_encoder_decoder as lvsm_encoder_decoder
from openrayzer.models import rayder as rayder
from openrayzer.models import rayzer as rayzer
from openrayzer.models import rayzer_geometric as rayzer_geometric
from openrayzer.models import taught as taught
from openrayzer.models import uplvsm as uplvsm
