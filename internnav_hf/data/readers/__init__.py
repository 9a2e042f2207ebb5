"""Readers of files that every format shares: JSON, parquet columns, folders, images."""
