"""List the messages of all errors as users read them: placeholders in braces, alternatives between bars."""

import ast
from collections.abc import Iterator
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
LIST = Path(__file__).resolve().parents[1] / "data" / "messages.txt"
DEEPEST = 3  # levels of variables that are defined by others


def messages(scripts: Path = SCRIPTS) -> list[str]:
    """Return a line for each message with its module, in the order of the module's functions."""
    lines = []
    for path in sorted(scripts.rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        named = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        found = [text for function in _functions(tree) for text in _messages_in(function, named)]
        lines += [f"{path.relative_to(scripts)}: {text}" for text in dict.fromkeys(found)]
    return lines


def _functions(tree: ast.AST) -> Iterator[ast.AST]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def _messages_in(function: ast.AST, constants: dict[str, ast.expr]) -> Iterator[str]:
    """Yield the messages of a function: of the errors that it raises, and of problems and warnings with a position."""
    named, said = (
        dict(constants),
        [message for node in ast.walk(function) if (message := _message_of(node)) is not None],
    )
    set_here = [node for node in ast.walk(function) if isinstance(node, ast.Assign)]
    for node in sorted([*said, *set_here], key=lambda node: (node.lineno, node.col_offset)):
        if isinstance(node, ast.Assign):
            named |= {node.targets[0].id: node.value} if isinstance(node.targets[0], ast.Name) else {}
            continue
        text = _text(node, named, DEEPEST)
        if any(letter.isalpha() for letter in _without_placeholders(text)):
            yield " ".join(text.split())


def _message_of(node: ast.AST) -> ast.expr | None:
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
        return node.exc.args[0]
    is_call_of_problems = isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and len(node.args) == 2
    if is_call_of_problems and node.func.attr in ("add", "warn"):
        return node.args[1]
    if isinstance(node, ast.Yield) and isinstance(node.value, ast.Tuple) and len(node.value.elts) == 2:
        return node.value.elts[1]
    return None


def _text(node: ast.expr, named: dict[str, ast.expr], depth: int) -> str:
    """Return a message's text; values that are known only at run time stay in braces."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, named, depth) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return _text(node.value, named, depth)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _text(node.left, named, depth) + _text(node.right, named, depth)
    if isinstance(node, ast.IfExp):
        return f"({_text(node.body, named, depth)} | {_text(node.orelse, named, depth)})"
    if isinstance(node, ast.List) and len(node.elts) == 1:  # of lines
        return _text(node.elts[0], named, depth)
    if (
        isinstance(node, ast.Name)
        and depth
        and isinstance(named.get(node.id), ast.Constant | ast.JoinedStr | ast.IfExp)
    ):
        return _text(named[node.id], named, depth - 1)
    return "{" + ast.unparse(node) + "}"


def _without_placeholders(text: str) -> str:
    kept, depth = [], 0
    for letter in text:
        depth += (letter == "{") - (letter == "}")
        kept.append(letter if depth == 0 and letter != "}" else "")
    return "".join(kept)


if __name__ == "__main__":
    LIST.write_text("".join(f"{line}\n" for line in messages()), encoding="utf-8")
