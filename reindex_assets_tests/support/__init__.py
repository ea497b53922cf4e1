"""What several tests share: stacks, runs, helpers. No tests."""
