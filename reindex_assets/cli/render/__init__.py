"""The output of the commands: tables, JSON, and the HTML report. Nothing here reads an engine."""
