"""The flags of settings, made from the table of settings for a command's function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Annotated, Any

import typer

from vaectl.commands.shared.options import completing
from vaectl.commands.shared.render import setting_text
from vaectl.config.recipes import RECIPES
from vaectl.config.table import BY_NAME, SETTINGS, Setting


@cache
def _defaults(recipe: str) -> Mapping[str, Any]:
    return RECIPES[recipe]().flat()


def option(setting: Setting) -> Any:
    """The option of a setting, with the default of its recipe in its help."""
    default = _defaults(setting.recipe)[setting.paths[0]]
    if setting.is_switch:
        return typer.Option(setting.flag, help=setting.help, show_default=False, rich_help_panel=setting.panel)
    text = setting_text(default) + (f" in {setting.recipe}" if setting.recipe != "vae" else "")
    return typer.Option(
        setting.flag,
        metavar=setting.placeholder,
        help=setting.help,
        show_default=False if default is None else text,
        rich_help_panel=setting.panel,
        autocompletion=completing(setting.choices),
    )


def with_settings(before: Mapping[str, Sequence[str]], rest: str) -> Callable[[Callable[..., None]], Any]:
    """Decorate a command's function so that its keyword arguments ``**settings`` are the flags of all settings.

    A flag that is absent is None. Values are texts, which ``settings.resolve`` reads; those of switches are True.

    Args:
        before: Name of one of the function's own options -> the settings that come before it in the help.
        rest: The option before which all other settings come.
    """
    named = {name for names in before.values() for name in names}
    groups = {**before, rest: [setting.name for setting in SETTINGS if setting.name not in named]}

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command, eval_str=True)

        def parameters() -> Iterator[inspect.Parameter]:
            for parameter in own.parameters.values():
                if parameter.kind is parameter.VAR_KEYWORD:
                    continue
                for name in groups.get(parameter.name, ()):
                    setting = BY_NAME[name]
                    kind: Any = bool | None if setting.is_switch else str | None
                    yield inspect.Parameter(
                        name, parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option(setting)]
                    )
                yield parameter.replace(kind=parameter.KEYWORD_ONLY)

        vars(command)["__signature__"] = own.replace(parameters=list(parameters()))  # which typer reads
        return command

    return decorated
