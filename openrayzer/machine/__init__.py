"""How many views go through a model at once: as many as are wanted, and no more than memory takes."""

from openrayzer.machine.fitting_batches import FittingBatches as FittingBatches
from openrayzer.machine.fitting_batches import ran_out_of_memory as ran_out_of_memory
