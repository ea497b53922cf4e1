"""Files beside the slices: the Parquet files of the steps, and small state files."""
