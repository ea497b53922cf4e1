"""Tests of the move from an earlier version: what it has left behind is taken up."""
