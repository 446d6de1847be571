"""The mutants of a source file: each is one small change of one place.

The operators: another arithmetic operator, one operand of two, a comparison with or without equality and its opposite,
another constant, no sign or ``not``, ``and`` for ``or``, the other branch of a condition, a call replaced by what it is
called on, ``sum`` for ``mean``, ``min`` for ``max``, and no statement where one has an effect. Annotations, decorators,
defaults of arguments, texts, errors and assertions stay as they are.
"""

from __future__ import annotations

import ast
import copy
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.MatMult: ast.Add, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE), ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,), ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,), ast.NotIn: (ast.In,),
}  # fmt: skip
OTHER_NAMES = {"sum": "mean", "mean": "sum", "min": "max", "max": "min", "argmin": "argmax", "argmax": "argmin",
               "minimum": "maximum", "maximum": "minimum", "floor": "ceil", "log1p": "log", "expm1": "exp"}  # fmt: skip
# methods whose result may stand for what they are called on
DROPPED = {"abs", "square", "sqrt", "exp", "log", "clamp", "clip", "detach", "flip", "neg", "sigmoid", "tanh", "round",
           "floor", "double", "clone", "logsumexp", "softmax", "log_softmax", "cumsum", "sign"}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """One change of one file.

    Attributes:
        file: The file, relative to the root.
        line: Number of the changed line.
        function: The function around the change by its first line, 0 at the top level of the module.
        source: The whole changed source.
        original: The source as it is.
    """

    file: str
    line: int
    function: int
    source: str
    original: str

    def diff(self) -> list[str]:
        """The removed and the added lines."""
        lines = difflib.unified_diff(self.original.splitlines(), self.source.splitlines(), n=0)
        return [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes that may stand in the place of one."""
    match node:
        case ast.BinOp(left, operator, right):
            if type(operator) in ARITHMETIC:
                yield ast.BinOp(left, ARITHMETIC[type(operator)](), right)
            yield from (left, right)
        case ast.AugAssign(target, operator, value) if type(operator) in ARITHMETIC:
            yield ast.AugAssign(target, ARITHMETIC[type(operator)](), value)
        case ast.Compare(left, [operator], right):
            yield from (ast.Compare(left, [other()], right) for other in COMPARISONS[type(operator)])
        case ast.BoolOp(operator, values):
            yield ast.BoolOp(ast.Or() if isinstance(operator, ast.And) else ast.And(), values)
        case ast.UnaryOp(ast.USub() | ast.Not(), operand):
            yield operand
        case ast.Constant(bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(int() as value):
            yield from (ast.Constant(value + 1), ast.Constant(value - 1))
        case ast.Constant(float() as value):
            yield ast.Constant(2 * value if value else 1.0)
        case ast.IfExp(test, body, orelse):
            yield from (body, orelse) if not isinstance(test, ast.Constant) else ()
        case ast.If(test, body, orelse):
            yield ast.If(ast.UnaryOp(ast.Not(), test), body, orelse)
        case ast.Call(ast.Attribute(value, name), arguments, keywords):
            if name in OTHER_NAMES:
                yield ast.Call(ast.Attribute(value, OTHER_NAMES[name]), arguments, keywords)
            if name in DROPPED:
                # torch.exp(x) and x.exp() alike
                module = isinstance(value, ast.Name) and value.id in ("torch", "np", "math", "F")
                yield arguments[0] if module and arguments else value
        case ast.Call(ast.Name(name), arguments, keywords) if name in OTHER_NAMES:
            yield ast.Call(ast.Name(OTHER_NAMES[name]), arguments, keywords)
        case ast.Expr(ast.Call()):
            yield ast.Pass()


def unchanged_parts(node: ast.AST) -> list[ast.AST]:
    """The children of a node that are not mutated: annotations, decorators and defaults."""
    match node:
        case ast.arguments():
            return [*node.defaults, *(default for default in node.kw_defaults if default)]
        case ast.arg() | ast.AnnAssign():
            return [node.annotation] if node.annotation else []
        case ast.FunctionDef():
            return [*node.decorator_list, *([node.returns] if node.returns else [])]
        case ast.ClassDef():
            return [*node.decorator_list, *node.bases]
        case ast.Subscript(ast.Name("Annotated" | "ClassVar" | "Literal" | "Callable")):
            return [node.slice]
    return []


def mutants_of(file: str, source: str) -> list[Mutant]:
    """Every mutant of a file that can be compiled, in the order of its lines."""
    lines = [line.encode() for line in source.splitlines(keepends=True)]
    mutants: list[Mutant] = []

    def visit(node: ast.AST, function: int) -> None:
        if is_left_alone(node):
            return
        if isinstance(node, ast.FunctionDef):
            function = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        if isinstance(node, ast.expr | ast.stmt):
            for other in changes(node):
                changed = replaced(lines, node, other)
                if changed != source and compiles(changed):
                    mutants.append(Mutant(file, node.lineno, function, changed, source))
        skipped = unchanged_parts(node)
        for child in ast.iter_child_nodes(node):
            if child not in skipped:
                visit(child, function)

    visit(ast.parse(source), 0)
    return mutants


def is_left_alone(node: ast.AST) -> bool:
    """Whether nothing in a node is mutated: texts, errors and what they depend on, and lines for the type checker."""
    match node:
        case ast.Raise() | ast.Assert() | ast.JoinedStr() | ast.Import() | ast.ImportFrom() | ast.Expr(ast.Constant()):
            return True
        case ast.If(body=[ast.Raise()], orelse=[]) | ast.If(ast.Name("TYPE_CHECKING")):
            return True
    return False


def replaced(lines: Sequence[bytes], node: Any, other: ast.AST) -> str:
    """The source with another node in the place of one."""
    if isinstance(node, ast.If):
        # only its condition: the branches stay as they are written
        node, other = node.test, other.test  # type: ignore[attr-defined]
    text = ast.unparse(ast.fix_missing_locations(copy.deepcopy(other)))
    text = f"({text})" if isinstance(other, ast.expr) else text
    before = b"".join(lines[: node.lineno - 1]) + lines[node.lineno - 1][: node.col_offset]
    after = lines[node.end_lineno - 1][node.end_col_offset :] + b"".join(lines[node.end_lineno :])
    return (before + text.encode() + after).decode()


def compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True
