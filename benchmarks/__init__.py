"""The benchmark suite: what this project costs, against its physical limit and against other ways to do the same."""
