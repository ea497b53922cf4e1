"""The command `reindex-assets`, also as `python -m reindex_assets`: the production commands and those of the local stack."""

from __future__ import annotations

from reindex_assets.cli.app import build_app
from reindex_assets.cli.group import panel_of
from reindex_assets.local.commands import local_app
from reindex_assets.local.demo.commands import demo, dev

app = build_app()
for command in (demo, dev):
    app.command(rich_help_panel=panel_of(command.__name__))(command)
app.add_typer(local_app, name="local", rich_help_panel=panel_of("local"))

if __name__ == "__main__":
    app()
