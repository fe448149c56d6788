"""Results of an evaluation: one scene, tables over scenes, the output folder, the printed table."""
