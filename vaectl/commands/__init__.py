"""The commands: each reads flags, calls the core and shows what it gives. Only here may typer and rich be imported."""
