"""What the commands print: tables, JSON, and the HTML report. Nothing here reads an engine."""
