"""The files that runs leave: the Parquet files of each slice, and small state files beside them."""
