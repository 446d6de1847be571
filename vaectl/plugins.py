"""Plug-ins: Python files and packages of a person's own that register parts, data sets and recipes.

A plug-in is named by a person: by a flag, by the environment, or by having installed its package. A run's record says
which plug-ins it needs, and is never a reason to import one.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import os
import re
import sys
import traceback
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vaectl.config.datasets import located
from vaectl.config.recipes import RECIPES
from vaectl.config.spec import PARTS, Part, Spec
from vaectl.errors import RunError, UsageError, shown
from vaectl.system.reading import open_regular

FLAG, VARIABLE, GROUP = "--plugin", "VAECTL_PLUGINS", "vaectl.plugins"
HINT = "give it with --plugin FILE.py or VAECTL_PLUGINS, from Python with vaectl.load_plugins"
# a name that a person can type as the value of a flag, in upper or lower case
NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
# characters of a digest in a message
DIGITS = 12


@dataclass(frozen=True)
class Plugin:
    """A plug-in that is loaded.

    Attributes:
        name: Name of the file, or of the package that has the entry point.
        path: The file.
        sha256: SHA-256 of the file.
        parts: Family and name of each member that it registered, such as ``("likelihood", "mine")``; ``data`` is the
            family of data sets, and ``model`` that of recipes.
        version: Version of the package; None for a file.
    """

    name: str
    path: Path
    sha256: str
    parts: tuple[tuple[str, str], ...]
    version: str | None = None

    def to_json(self) -> dict[str, str]:
        """``name`` and ``sha256``, and of a package its ``version``."""
        version = {} if self.version is None else {"version": self.version}
        return {"name": self.name, "sha256": self.sha256, **version}


# the plug-ins of this process, by path or module
LOADED: dict[str, Plugin] = {}


def load_plugins(paths: str | Path | Iterable[str | Path] = ()) -> tuple[Plugin, ...]:
    """Load plug-ins, each once in a process: files, then those of ``VAECTL_PLUGINS``, then those of installed packages.

    A plug-in registers a part by assigning to the dict of its family, such as ``LIKELIHOODS["mine"] = Mine``. A package
    has an entry point in the group ``vaectl.plugins``, whose module is imported.

    Args:
        paths: Python files, ``FILE.py``.

    Returns:
        The plug-ins, loaded now or before.

    Raises:
        UsageError: A file is missing, is no ``.py`` file, has changed since it was loaded or raises an error while it
            is imported; or it registers a name that exists already, or something that is no such part.
    """
    files = [(FLAG, path) for path in ([paths] if isinstance(paths, str | Path) else paths)]
    files += [(VARIABLE, path) for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]
    plugins = [_of_file(f"{source} {path}", str(path)) for source, path in files]
    plugins += [_of_package(point) for point in importlib.metadata.entry_points(group=GROUP)]
    return tuple(dict.fromkeys(plugins))


def used_by(spec: Spec) -> list[dict[str, str]]:
    """The plug-ins that registered a part, the data set or the recipe of a spec, as a run's record keeps them."""
    used = {("model", spec.model), *((part, getattr(spec, part).name) for part in PARTS)}
    return [plugin.to_json() for plugin in LOADED.values() if used & {*plugin.parts}]


def require(plugins: Sequence[Mapping[str, str]], owner: str, *, exactly: bool = False) -> list[str]:
    """Check that plug-ins are loaded.

    Args:
        plugins: What a record keeps of them.
        owner: Who needs them, for messages.
        exactly: Whether their content must be the same.

    Returns:
        A sentence for each plug-in whose content is another one.

    Raises:
        RunError: One is not loaded; or, with ``exactly``, has another content.
    """
    digests = {plugin.sha256 for plugin in LOADED.values()}
    by_name = {plugin.name: plugin for plugin in LOADED.values()}
    differences = []
    for needed in plugins:
        name, digest = shown(needed["name"]), needed["sha256"]
        if digest in digests:
            continue
        if needed["name"] not in by_name:
            version = needed.get("version")
            package = f"it was in an installed package, in version {shown(version)}"
            hint = package if version is not None else HINT
            raise RunError(f"{owner} needs the plug-in {name} (sha256 {digest[:DIGITS]})", hint=hint)
        now = by_name[needed["name"]].sha256
        differences.append(
            f"{owner} needs the plug-in {name} with sha256 {digest[:DIGITS]}; the one that is loaded has {now[:DIGITS]}"
        )
    if differences and exactly:
        raise RunError(differences[0], hint="give the plug-in as it was then")
    return differences


def _of_file(label: str, text: str) -> Plugin:
    """Load a file, unless it is loaded already."""
    path = located(text)
    if Path(path).suffix != ".py":
        raise UsageError(f"{label} must be a Python file, FILE.py")
    try:
        with open_regular(Path(path)) as file:
            content = file.read()
    except OSError as error:
        raise UsageError(f"{label} cannot be read: {error.strerror}") from None
    key, digest = os.path.realpath(path), hashlib.sha256(content).hexdigest()
    if key in LOADED:
        if LOADED[key].sha256 != digest:
            raise UsageError(f"{label} has changed since it was loaded", hint="restart Python to load it again")
        return LOADED[key]
    module = types.ModuleType(f"vaectl_plugin_{hashlib.sha256(os.fsencode(key)).hexdigest()}")
    module.__file__ = path

    def importing() -> None:
        sys.modules[module.__name__] = module  # where dataclasses look for the names of annotations
        # what was read is what its SHA-256 is of: neither another reading nor a cache of Python's
        exec(compile(content, path, "exec"), module.__dict__)

    try:
        parts = _registered(label, importing, path)
    except BaseException:
        sys.modules.pop(module.__name__, None)
        raise
    LOADED[key] = Plugin(Path(path).name, Path(path), digest, parts)
    return LOADED[key]


def _of_package(point: importlib.metadata.EntryPoint) -> Plugin:
    """Load the module of an installed package's entry point, unless it is loaded already."""
    if point.module in LOADED:
        return LOADED[point.module]
    name, version = (point.module, None) if point.dist is None else (point.dist.name, point.dist.version)
    label = f"plug-in {name} {version or ''}".rstrip() + f" ({point.value}, an installed package)"
    parts = _registered(label, point.load)
    file = sys.modules[point.module].__file__
    if file is None:
        raise UsageError(f"{label} has no file: an entry point of {GROUP} must name a module")
    digest = hashlib.sha256(Path(file).read_bytes()).hexdigest()
    LOADED[point.module] = Plugin(name, Path(file), digest, parts, version)
    return LOADED[point.module]


def _registered(label: str, importing: Callable[[], object], path: str = "") -> tuple[tuple[str, str], ...]:
    """Import a plug-in and return what it registered; after an error the registries are as they were."""
    registries = _registries()
    before = {family: dict(members) for family, members in registries.items()}
    try:
        try:
            importing()
        except (Exception, SystemExit) as error:
            raise UsageError(f"{label} cannot be loaded: {_told(error, path)}") from error
        return tuple(_new_members(label, registries, before))
    except BaseException:
        for family, members in registries.items():
            members.clear()
            members.update(before[family])
        raise


def _registries() -> dict[str, dict[str, Any]]:
    """Family -> the dict that its members are registered in."""
    from vaectl.model.builder import FAMILIES

    return {**FAMILIES, "model": RECIPES}


def _new_members(
    label: str, registries: Mapping[str, Mapping[str, Any]], before: Mapping[str, Mapping[str, Any]]
) -> Iterable[tuple[str, str]]:
    """Check what was registered since ``before``, and yield family and name of each new member."""
    for family, members in registries.items():
        for name, member in before[family].items():
            if members.get(name) is not member:
                owner = next((p.name for p in LOADED.values() if (family, name) in p.parts), "vaectl")
                raise UsageError(
                    f"{label} registers {family} '{name}', and {owner} has one of that name already",
                    hint="register it under another name",
                )
        for name, member in members.items():
            if name not in before[family]:
                if not isinstance(name, str) or not NAME.fullmatch(name) or name == "auto":
                    raise UsageError(
                        f"{label} registers {family} {shown(name)}: a name must be of small letters, digits, - and _"
                        + (", and auto has a meaning" if name == "auto" else "")
                    )
                try:
                    _check(family, name, member)
                except Exception as error:
                    raise UsageError(f"{label}: {family} '{name}' cannot be used: {_told(error)}") from error
                yield family, name


def _check(family: str, name: str, member: Any) -> None:
    """Raise an error unless a new member is what its family takes, with options that have types and defaults."""
    from vaectl.model import builder, objectives, parts

    bases: dict[str, type] = {
        "encoder": parts.Network, "decoder": parts.Network, "posterior": parts.Posterior, "prior": parts.Prior,
        "likelihood": parts.Likelihood, "objective": objectives.Objective,
    }  # fmt: skip
    if family not in bases:
        if not callable(member) or (family == "model" and not isinstance(member(), Spec)):
            what = "a function that returns a Spec" if family == "model" else "a function of a Loading that returns Raw"
            raise TypeError(f"it must be {what}")
        return
    base = bases[family]
    is_maker = base is parts.Network and inspect.isroutine(member)
    if not is_maker and not (inspect.isclass(member) and issubclass(member, base)):
        raise TypeError(
            f"it must be a class derived from {base.__module__}.{base.__name__}; got "
            f"{getattr(member, '__name__', shown(member))}"
        )
    if missing := sorted(getattr(member, "__abstractmethods__", ())):
        raise TypeError(f"it lacks {', '.join(missing)}")
    builder.complete_part(family, Part(name))


def _told(error: BaseException, path: str = "") -> str:
    """An error in one line, with its line in the file at ``path`` if it passed there."""
    if isinstance(error, SyntaxError):
        return f"SyntaxError: {error.msg} ({Path(error.filename or '').name}, line {error.lineno})"
    text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f"{text} ({Path(path).name}, line {lines[-1]})" if lines else text
