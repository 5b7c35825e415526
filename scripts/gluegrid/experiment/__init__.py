"""From the experiment file to cells: checked config, tasks, options, references, and the run.json of each cell."""
