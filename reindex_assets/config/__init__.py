"""The fleet file, the settings from the environment, and the rules that follow from them for each cluster."""
