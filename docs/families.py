"""Writes the names of all parts into vaectl/config/families.py, which help and completion read without torch."""

from __future__ import annotations

from pathlib import Path

from vaectl.config.recipes import RECIPES
from vaectl.model.builder import FAMILIES

FILE = Path(__file__).parents[1] / "vaectl" / "config" / "families.py"
HEAD = '''"""The names of recipes and parts, for help and completion without torch; written by ``just docs``."""

from __future__ import annotations

'''


def listed() -> str:
    """The file's content, from the registries."""
    networks = dict.fromkeys(name for name in FAMILIES["encoder"] if name in FAMILIES["decoder"])
    families = {"RECIPES": RECIPES, "NETWORKS": networks}
    families |= {f"{family.upper()}S": FAMILIES[family] for family in ("prior", "likelihood", "objective")}
    lines = ["".join(f'    "{name}",\n' for name in members) for members in families.values()]
    return HEAD + "".join(f"{name} = (\n{body})\n" for name, body in zip(families, lines, strict=True))


if __name__ == "__main__":
    FILE.write_text(listed(), encoding="utf-8")
