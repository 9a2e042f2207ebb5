"""One folder per family of models, and `common` with the parts that families share."""
