"""One file per model (config, output, model), and beside them the parts that models share."""
