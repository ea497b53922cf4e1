"""The fleet file, settings from the environment, and what follows from them for one cluster."""
