"""`python -m reindex_assets`: the command line. What lives here: nothing else."""

from reindex_assets.cli import main

if __name__ == "__main__":
    main()
