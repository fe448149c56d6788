"""Camera solvers: cameras that explain matches and images."""

from openrayzer.components.solvers import bundle_adjustment as bundle_adjustment
from openrayzer.components.solvers import correspondence_network as correspondence_network
