"""The machine that a program runs on: processes, devices, memory, random generators, files and the terminal."""

from openrayzer.machine.fitting_batches import FittingBatches as FittingBatches
from openrayzer.machine.fitting_batches import ran_out_of_memory as ran_out_of_memory
