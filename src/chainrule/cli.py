"""`chainrule ...`: parses the command line and hands over. What the commands do is in the packages they call."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from chainrule.explain import command as explaining

app = typer.Typer(
    name="chainrule",
    help="Backpropagation for NumPy. Start with [bold]chainrule train[/bold]: a network learns handwritten digits.",
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

EXIT_DIVERGED = 1
EXIT_UNUSABLE = 2
EXIT_SIGNALLED = 128

EXAMPLES = """
[bold]Examples[/bold]

chainrule train                                    handwritten digits: seconds
chainrule train --depth 30 --activation sigmoid    watch the gradient vanish
chainrule train --depth 200 --residual             and come through 200 layers
chainrule train --data wine.csv --target quality   learn a table of your own
chainrule train --resume runs/NAME                 go on after Ctrl-C
"""

DATA, NETWORK, OPTIMISATION, RUN = "Data", "Network", "Optimisation", "Run"


def _option(panel: str, help: str, default: str, metavar: str | None = None) -> Any:
    """An option that is None if not given; `default` says in words what is chosen then."""
    shown = f"{help} [dim]Default: {default}.[/dim]" if default else help
    return typer.Option(help=shown, rich_help_panel=panel, show_default=False, metavar=metavar)


def _flag(name: str, help: str) -> Any:
    return typer.Option(*name.split(), help=help, rich_help_panel=RUN)


@app.command(epilog=EXAMPLES, short_help="Train a network on handwritten digits or on your own table.")
def train(
    context: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", help="With --resume: the run folder to go on with.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None, _option(DATA, "Table to learn from: CSV, NPZ or Parquet.", "handwritten digits", "FILE")
    ] = None,
    target: Annotated[str | None, _option(DATA, "Column to learn from all the others.", "", "COLUMN")] = None,
    task: Annotated[
        str | None, _option(DATA, "classification or regression.", "what the target looks like", "NAME")
    ] = None,
    drop: Annotated[list[str] | None, _option(DATA, "Column to leave out; may be repeated.", "", "COLUMN")] = None,
    depth: Annotated[int | None, _option(NETWORK, "Hidden layers.", "2", "N")] = None,
    width: Annotated[int | None, _option(NETWORK, "Units in each of them.", "256, from depth 10 on 128", "N")] = None,
    activation: Annotated[
        str | None,
        _option(NETWORK, "relu, leaky_relu, elu, gelu, silu, softplus, sigmoid, tanh or linear.", "relu", "NAME"),
    ] = None,
    init: Annotated[
        str | None,
        _option(
            NETWORK,
            "How weights start: xavier_uniform, xavier_normal, kaiming_uniform, kaiming_normal, orthogonal, "
            "zeros or auto: Kaiming (He) for relu and its kin, Xavier for sigmoid and tanh.",
            "auto",
            "NAME",
        ),
    ] = None,
    norm: Annotated[
        str | None, _option(NETWORK, "Normalise before every activation: none, batch or layer.", "none", "NAME")
    ] = None,
    residual: Annotated[bool | None, _option(NETWORK, "Let every hidden layer add to its input.", "no")] = None,
    dropout: Annotated[
        float | None,
        _option(
            NETWORK,
            "Share of hidden units left out of a step.",
            "0.4 for the digits, less from depth 3 and none from depth 10 on; 0 for your table",
            "X",
        ),
    ] = None,
    optimizer: Annotated[str | None, _option(OPTIMISATION, "adam, adamw, sgd or rmsprop.", "adam", "NAME")] = None,
    lr: Annotated[
        float | None,
        _option(
            OPTIMISATION,
            "Highest learning rate.",
            "0.03 for adam and adamw, 0.15 for sgd, 0.01 for rmsprop, divided by depth + 1",
            "X",
        ),
    ] = None,
    momentum: Annotated[
        float | None, _option(OPTIMISATION, "Momentum of sgd or rmsprop.", "0.9 for sgd, 0 for rmsprop", "X")
    ] = None,
    weight_decay: Annotated[
        float | None,
        _option(
            OPTIMISATION,
            "L2 penalty; with adamw, shrinkage.",
            "0.01 for adamw; otherwise 0.0005 for the digits up to depth 9, and 0",
            "X",
        ),
    ] = None,
    schedule: Annotated[
        str | None, _option(OPTIMISATION, "How the learning rate falls: cosine, step or constant.", "cosine", "NAME")
    ] = None,
    warmup: Annotated[
        float | None, _option(OPTIMISATION, "Epochs over which it rises first.", "0, from depth 10 on 1", "X")
    ] = None,
    clip_norm: Annotated[
        float | None, _option(OPTIMISATION, "Scale a gradient with a larger norm down to this one.", "no limit", "X")
    ] = None,
    clip_value: Annotated[
        float | None, _option(OPTIMISATION, "Cut every element of the gradient off at this size.", "no limit", "X")
    ] = None,
    batch_size: Annotated[int | None, _option(OPTIMISATION, "Rows per step.", "64", "N")] = None,
    epochs: Annotated[
        int | None, _option(OPTIMISATION, "Passes through the training rows.", "60, from depth 10 on 20", "N")
    ] = None,
    dtype: Annotated[str | None, _option(OPTIMISATION, "float32 or float64.", "float32", "NAME")] = None,
    compile: Annotated[
        bool | None, _option(OPTIMISATION, "Run the steps as machine code: the same to rounding, faster.", "yes")
    ] = None,
    seed: Annotated[
        int | None, _option(OPTIMISATION, "Start of all random numbers: the same seed, the same result.", "0", "N")
    ] = None,
    run: Annotated[
        Path | None, _option(RUN, "Folder for checkpoint, metrics and plot.", "a new one in runs/", "DIR")
    ] = None,
    resume: Annotated[
        bool, _flag("--resume", "Go on with the run in RUN (or --run DIR) to the result it would have had.")
    ] = False,
    overwrite: Annotated[bool, _flag("--overwrite", "Give up the run that is in --run DIR already.")] = False,
    quiet: Annotated[bool, _flag("--quiet -q", "Plain lines instead of the live display.")] = False,
    debug: Annotated[bool, _flag("--debug", "Show where in the program an error comes from.")] = False,
) -> None:
    """Train a network and watch its gradients.

    Shows loss, accuracy and gradient norm as it trains; then the accuracy on
    rows it has never seen and, layer by layer, how the gradient flows. A run
    folder keeps checkpoint.safetensors, metrics.jsonl, config.json, plot.png.
    Ctrl-C saves, --resume goes on.
    """
    from chainrule import train as training

    options = {name: context.params[name] for name in training.OPTIONS}
    options["data"] = None if data is None else str(data.resolve())
    options["drop"] = tuple(drop) if drop else None
    if folder is not None and not resume:
        raise training.RunError(f"{folder} alone says too little: --resume {folder} goes on, --run {folder} starts")
    if not resume:
        training.start(training.Config.choose(**options), run, overwrite=overwrite, quiet=quiet)
        return
    if overwrite:
        raise training.RunError("--resume and --overwrite exclude each other: go on with the run, or give it up")
    if folder is not None and run is not None and folder != run:
        raise training.RunError(f"--resume {folder} and --run {run} name two folders; give one")
    if (path := folder or run) is None:
        raise training.RunError("--resume needs the folder of a run: chainrule train --resume runs/NAME")
    training.resume(path, options, quiet=quiet)


app.command("explain", epilog=explaining.EXAMPLES, short_help="Show a gradient step by step, as on a whiteboard.")(
    explaining.command
)


@app.command()
def info() -> None:
    """Versions, and what the matrix products run on."""
    import os
    import platform

    import numpy as np

    import chainrule

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    typer.echo(f"chainrule {chainrule.__version__}")
    typer.echo(f"Python    {platform.python_version()} on {platform.platform()}")
    typer.echo(f"NumPy     {np.__version__}, {blas['name']} {blas['version']}")
    typer.echo(f"cores     {os.cpu_count()}")


def _print_version(wanted: bool) -> None:
    if wanted:
        from chainrule import __version__

        typer.echo(f"chainrule {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None: ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: the command line without the program's name; that of this process by default.

    Returns:
        The exit status. What the user can put right is one line on standard error; a fault of the program itself
        is a traceback.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return app(arguments, prog_name="chainrule", standalone_mode=False) or 0
    except Exception as error:
        told = _told(error)
        if told is None or "--debug" in arguments:
            raise
        message, status = told
        if message:
            typer.echo(message, err=True)
        return status


def _told(error: Exception) -> tuple[str, int] | None:
    """What to say of an error and the exit status, or None where it is the program's own fault."""
    from chainrule.data import DataError
    from chainrule.train import Diverged, Interrupted, RunError

    if isinstance(error, Interrupted):
        return str(error), EXIT_SIGNALLED + error.signal
    if isinstance(error, Diverged):
        return f"Error: {error}", EXIT_DIVERGED
    if isinstance(error, typer.TyperException):
        message = error.format_message()  # none where the help was shown instead
        return message and f"Error: {message}", EXIT_UNUSABLE
    if isinstance(error, (RunError, DataError)):
        return f"Error: {error}", EXIT_UNUSABLE
    if isinstance(error, MemoryError):
        return "Error: there is not enough memory; try a smaller --width, --depth or --batch-size", EXIT_UNUSABLE
    return None
