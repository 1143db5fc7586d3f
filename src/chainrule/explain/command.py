"""`chainrule explain`: the whiteboard on the command line."""

from __future__ import annotations

import inspect
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from chainrule.commandline import Unusable, function_in
from chainrule.core.errors import GradientError
from chainrule.explain.explanation import FORMATS, Explanation, NotFinite, explained
from chainrule.explain.language import ExpressionError, Program, value_of

EXAMPLES = """
[bold]Examples[/bold]

chainrule explain "(w*x + b - y)**2" w=2 x=3 b=1 y=8
chainrule explain "q = x + y; f = q*z" x=-2 y=5 z=-4
chainrule explain "x1*x2 + sin(x1)" x1=2 x2=3 --mode forward --seed x1
chainrule explain "z = W@x + b; L = cross_entropy(relu(z), t)" W="\\[\\[.1,.2],\\[.3,.4]]" x="\\[1,2]" b="\\[0,0]" t=0
chainrule explain "tanh(w*x)" w=2 x=3 --output tanh.html
chainrule explain model.py:loss x="\\[1,2]"
"""


def command(
    expression: Annotated[
        str, typer.Argument(metavar="EXPRESSION", help="Steps separated by ;, or FILE.py:FUNCTION.", show_default=False)
    ],
    values: Annotated[
        list[str] | None, typer.Argument(metavar="NAME=VALUE...", help="Numbers and \\[lists].", show_default=False)
    ] = None,
    wrt: Annotated[
        str | None, typer.Option(help="Names to differentiate with respect to, with commas. Default: all.")
    ] = None,
    mode: Annotated[str, typer.Option(help="reverse (gradients) or forward (tangents).")] = "reverse",
    seed: Annotated[
        str | None,
        typer.Option(help="Forward: the name to move, or name=tangent,... Reverse: the cotangent of an array result."),
    ] = None,
    format: Annotated[
        str | None, typer.Option(help=f"{', '.join(FORMATS)}. Default: text, or as --output ends.")
    ] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Write to this file.", show_default=False)] = None,
    digits: Annotated[int, typer.Option(help="Significant digits.", min=1, max=17)] = 6,
    depth: Annotated[int, typer.Option(help="Levels of repeated blocks to open.", min=0)] = 0,
) -> None:
    """Show every value, local derivative and gradient of an expression or function, step by step."""
    format = _format(format, output)
    path, colon, name = expression.rpartition(":")
    function: Any = function_in(Path(path), name) if colon and path.endswith(".py") else _program(expression)
    explanation = _explained(function, _inputs(values or [], function), wrt, mode, seed, depth, digits)
    if output is not None:
        from chainrule.explain.render import write

        try:
            write(explanation, output, format)
        except OSError as error:
            raise Unusable(f"cannot write {output}: {error.strerror}") from None
        return
    if hasattr(sys.stdout, "reconfigure"):  # a terminal may have no ⊙; a document says that it is UTF-8
        sys.stdout.reconfigure(**({"errors": "replace"} if format == "text" else {"encoding": "utf-8"}))
    if format == "text":
        from rich.console import Console

        from chainrule.explain.text import renderable

        Console(soft_wrap=False).print(renderable(explanation))
    else:
        typer.echo(explanation.to(format), nl=False)


def _format(format: str | None, output: Path | None) -> str:
    from chainrule.explain.render import format_of

    if format is None:
        try:
            return "text" if output is None else format_of(output)
        except ValueError as error:
            raise Unusable(f"{error}; or give --format") from None
    if format not in FORMATS:
        raise Unusable(f"--format must be one of {', '.join(FORMATS)}, not {format!r}")
    return format


def _explained(
    function: Any, inputs: dict[str, Any], wrt: str | None, mode: str, seed: str | None, depth: int, digits: int
) -> Explanation:
    chosen = [name.strip() for name in wrt.split(",")] if wrt else None
    if isinstance(function, Program):
        differentiable = [name for name in inputs if name not in function.targets]
        for name in chosen or ():
            if name not in differentiable:
                raise Unusable(
                    f"--wrt names {name!r}; the expression can be differentiated by {', '.join(differentiable)}"
                )
        chosen = chosen or differentiable
    try:
        start = _seed(seed, mode)
        return _run(function, inputs, {"wrt": chosen, "mode": mode, "seed": start, "depth": depth, "digits": digits})
    except ExpressionError as error:
        raise _told(error) from None
    except NotFinite as error:
        if isinstance(function, Program):
            raise _told(function.error(_bare(error), function.places.get(error.step.node))) from None
        raise Unusable(_bare(error)) from None
    except Exception as error:
        message = _on_the_command_line(error)
        if isinstance(function, Program) and isinstance(error, (GradientError, ValueError, TypeError, ArithmeticError)):
            raise _told(function.error(message, function.statements[-1])) from None
        line = None if isinstance(function, Program) else _line_in(function, error)
        if line is not None:
            raise Unusable(f"{function.__name__}, line {line}: {type(error).__name__}: {message}") from None
        if isinstance(error, (GradientError, ValueError, TypeError)):
            raise Unusable(message) from None
        raise


def _run(function: Any, inputs: dict[str, Any], options: dict[str, Any]) -> Explanation:
    """Without NumPy's warnings: a value that is not finite is an error here."""
    with np.errstate(all="ignore"):
        return explained(function, (), inputs, **options)


def _told(error: ExpressionError) -> Unusable:
    underlined = error.underlined
    return Unusable(f"{error}\n{underlined}" if underlined else str(error))


def _on_the_command_line(error: Exception) -> str:
    """The message with the names that things have there."""
    message = _bare(error).replace(
        "with .sum(), or give seed=, a cotangent", "with sum(...), or give --seed, a cotangent"
    )
    return message.replace("seed=", "--seed ")


def _line_in(function: Any, error: Exception) -> int | None:
    """The line of the user's file that raised an error, if one did."""
    file = getattr(inspect.unwrap(function), "__code__", None)
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if file and frame.filename == file.co_filename
    ]
    return lines[-1] if lines else None


def _bare(error: Exception) -> str:
    return str(error).removeprefix("explain: ").replace("\n", " ")


def _program(expression: str) -> Program:
    try:
        return Program(expression)
    except ExpressionError as error:
        raise _told(error) from None


def _inputs(values: list[str], function: Any) -> dict[str, Any]:
    inputs: dict[str, Any] = {}
    for given in values:
        name, equals, text = given.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise Unusable(f"{given!r} is not NAME=VALUE")
        if name in inputs:
            raise Unusable(f"{name} is given twice")
        try:
            inputs[name] = value_of(text)
        except ExpressionError as error:
            raise Unusable(f"the value of {name}: {error}\n{error.underlined}") from None
    if isinstance(function, Program):
        from chainrule.explain.language import CONSTANTS

        for name in inputs:
            if name not in function.names:
                raise Unusable(
                    f"{name} is given, but the expression does not use it; it uses {', '.join(function.names)}"
                )
        for name in function.names:
            if name not in inputs and name not in CONSTANTS:
                raise _told(function.error(f"{name} is not given; add {name}=...", function.use_of(name)))
        return {name: inputs[name] for name in inputs}
    return inputs


def _seed(seed: str | None, mode: str) -> Any:
    if seed is None:
        return None
    if mode == "forward":
        parts = _split(seed)
        if all("=" in part for part in parts):
            return {part.partition("=")[0].strip(): value_of(part.partition("=")[2]) for part in parts}
        return seed if len(parts) == 1 else dict.fromkeys((part.strip() for part in parts), 1.0)
    return value_of(seed)


def _split(text: str) -> list[str]:
    """At commas outside brackets."""
    parts, depth = [""], 0
    for c in text:
        depth += (c == "[") - (c == "]")
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return parts
