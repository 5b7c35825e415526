"""From the experiment file to cells: config checks, tasks, options, references, and the run.json of each cell."""
