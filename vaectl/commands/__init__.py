"""The commands: each reads flags, calls the core and shows the result. Only here may typer and rich be imported."""
