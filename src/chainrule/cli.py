"""`chainrule ...`: parses the command line and hands over. What the commands do is in the packages they call."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

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

chainrule train                                     handwritten digits, about two seconds
chainrule train --depth 30 --activation sigmoid     watch the gradient vanish
chainrule train --depth 200 --residual              and come through 200 layers
chainrule train --data wine.csv --target quality    learn a column of your own table
chainrule train --resume runs/2026-01-31-142530-digits
""".replace("\n", "\n\n").replace("\n\n\n\n", "\n\n")

DATA, NETWORK, OPTIMISATION, RUN = "Data", "Network", "Optimisation", "Run"


def _option(panel: str, help: str, default: str | None = None, **more: Any) -> Any:
    """An option of which the default is decided by the rest: `default` says how."""
    return typer.Option(help=help, rich_help_panel=panel, show_default=default or False, **more)


@app.command(epilog=EXAMPLES, short_help="Train a network on handwritten digits or on your own table.")
def train(
    context: typer.Context,
    folder: Annotated[Path | None, typer.Argument(metavar="RUN", help="With --resume: the run folder to go on with.", show_default=False)] = None,
    data: Annotated[Path | None, _option(DATA, "Table to learn from: CSV, NPZ or Parquet.", "the bundled digits", metavar="FILE")] = None,
    target: Annotated[str | None, _option(DATA, "The column to learn from all others.", metavar="COLUMN")] = None,
    task: Annotated[str | None, _option(DATA, "classification or regression.", "by the target", metavar="TASK")] = None,
    drop: Annotated[list[str] | None, _option(DATA, "A column to leave out; may be repeated.", metavar="COLUMN")] = None,
    depth: Annotated[int | None, _option(NETWORK, "Hidden layers.", "2")] = None,
    width: Annotated[int | None, _option(NETWORK, "Units in each of them.", "128, or 64 from depth 20 on")] = None,
    activation: Annotated[str | None, _option(NETWORK, "relu, leaky_relu, elu, gelu, silu, softplus, sigmoid, tanh or linear.", "relu", metavar="NAME")] = None,
    init: Annotated[str | None, _option(NETWORK, "How weights start: xavier_uniform, xavier_normal, kaiming_uniform, kaiming_normal, orthogonal or zeros.", "auto: He for the relu family, Xavier for others", metavar="NAME")] = None,
    norm: Annotated[str | None, _option(NETWORK, "Normalise before each activation: none, batch or layer.", "none", metavar="NAME")] = None,
    residual: Annotated[bool | None, _option(NETWORK, "Let each hidden layer add to its input.", "--no-residual")] = None,
    dropout: Annotated[float | None, _option(NETWORK, "Share of hidden units left out of a step.", "0.2 for the digits, otherwise 0")] = None,
    optimizer: Annotated[str | None, _option(OPTIMISATION, "adam, adamw, sgd or rmsprop.", "adam", metavar="NAME")] = None,
    lr: Annotated[float | None, _option(OPTIMISATION, "Highest learning rate.", "by optimiser and depth")] = None,
    momentum: Annotated[float | None, _option(OPTIMISATION, "Momentum of sgd and rmsprop.", "0.9 for sgd")] = None,
    weight_decay: Annotated[float | None, _option(OPTIMISATION, "L2 penalty, or shrinkage with adamw.", "0, or 0.01 with adamw")] = None,
    schedule: Annotated[str | None, _option(OPTIMISATION, "How the learning rate falls: cosine, step or constant.", "cosine", metavar="NAME")] = None,
    warmup: Annotated[float | None, _option(OPTIMISATION, "Epochs over which it first rises.", "0, or 1 from depth 20 on")] = None,
    clip_norm: Annotated[float | None, _option(OPTIMISATION, "Scale a longer gradient down to this norm.", "no limit")] = None,
    clip_value: Annotated[float | None, _option(OPTIMISATION, "Cut each element of the gradient off here.", "no limit")] = None,
    batch_size: Annotated[int | None, _option(OPTIMISATION, "Rows per step.", "64")] = None,
    epochs: Annotated[int | None, _option(OPTIMISATION, "Passes through the training rows.", "60, or 30 from depth 20 on")] = None,
    dtype: Annotated[str | None, _option(OPTIMISATION, "float32 or float64.", "float32", metavar="NAME")] = None,
    seed: Annotated[int | None, _option(OPTIMISATION, "Start of all random numbers; the same seed gives the same result.", "0")] = None,
    run: Annotated[Path | None, _option(RUN, "Folder for checkpoint, metrics and plot.", "a new one in runs/", metavar="DIR")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in RUN (or in --run DIR), to the result it would have had.", rich_help_panel=RUN)] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Give up the run that is in --run DIR.", rich_help_panel=RUN)] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Plain lines instead of the live display.", rich_help_panel=RUN)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the program an error comes from.", rich_help_panel=RUN)] = False,
) -> None:  # fmt: skip
    """Train a network and watch its gradients.

    Shows loss, accuracy and gradient norm while it trains, then the accuracy on rows it has never seen and, layer
    by layer, how the gradient flows. Everything is kept in a run folder: checkpoint.safetensors, metrics.jsonl,
    config.json and plot.png. Ctrl-C saves; --resume goes on.
    """
    from chainrule import train as training

    options = {name: context.params[name] for name in training.OPTIONS}
    options["data"] = None if data is None else str(data.resolve())
    options["drop"] = tuple(drop) if drop else None
    if folder is not None and not resume:
        raise training.RunError(f"{folder} stands alone: write --resume {folder} to go on with a run, --run {folder} to start one")
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


@app.command()
def info() -> None:
    """Versions, and what the matrix products run on."""
    import os
    import platform

    import numpy as np

    import chainrule

    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]  # type: ignore[index]
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
    """Run a command; returns the exit status. Faults of the user are one line on standard error."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    return _reported(lambda: app(arguments, prog_name="chainrule", standalone_mode=False), "--debug" in arguments)


def _reported(command: Callable[[], Any], debug: bool) -> int:
    from chainrule.data import DataError
    from chainrule.train import Diverged, Interrupted, RunError

    try:
        return command() or 0
    except Exception as error:
        status = EXIT_UNUSABLE
        if isinstance(error, Diverged):
            status = EXIT_DIVERGED
        elif isinstance(error, Interrupted):
            status = EXIT_SIGNALLED + error.signal
        elif isinstance(error, MemoryError):
            error = MemoryError("There is not enough memory for this; try a smaller --width, --depth or --batch-size")
        elif not isinstance(error, (RunError, DataError, typer.TyperException)):
            raise
        if debug:
            raise
        typer.echo(f"{'' if isinstance(error, Interrupted) else 'Error: '}{error}", err=True)
        return status
