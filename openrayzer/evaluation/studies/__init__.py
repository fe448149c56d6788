"""Studies: many trainings that differ in planned ways, and the statistics of their differences."""
