"""The oracle (reindex_assets/local/oracle.py) under the name by which the tests know it: the demonstration of a fleet asks it too."""

from reindex_assets.local.oracle import assert_equal, differences

__all__ = ["assert_equal", "differences"]
