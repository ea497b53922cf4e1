"""Mutants: small faults put into the code that checks and writes; its tests have to notice each."""
