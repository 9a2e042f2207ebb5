"""Writers of the dataset formats."""
