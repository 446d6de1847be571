"""The commands: each x_cli() parses, the core works, _render shows. Only here may typer and rich be imported."""
