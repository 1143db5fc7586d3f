"""`chainrule ...`: parses the command line and hands over. What the commands do is in the packages they call."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from chainrule.doctor import command as examining
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
chainrule train --model cnn                        convolutions: 99%
chainrule train --data wine.csv --target quality   learn a table of your own
chainrule train --model lstm --data book.txt       learn to write like a book
chainrule train --resume runs/NAME                 go on after Ctrl-C
"""

DATA, NETWORK, SPECIAL, OPTIMISATION, RUN = "Data", "Network", "Images and text", "Optimisation", "Run"


def _option(panel: str, help: str, default: str, metavar: str | None = None) -> Any:
    """An option that is None if not given; `default` says in words what is chosen then."""
    shown = f"{help} [dim]Default: {default}.[/dim]" if default else help
    return typer.Option(help=shown, rich_help_panel=panel, show_default=False, metavar=metavar)


def _flag(name: str, help: str) -> Any:
    return typer.Option(*name.split(), help=help, rich_help_panel=RUN)


@app.command(epilog=EXAMPLES, short_help="Train a network on handwritten digits, your own table, or a text.")
def train(
    parsed: typer.Context,
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="RUN", help="With --resume: the run folder to go on with.", show_default=False),
    ] = None,
    data: Annotated[
        Path | None,
        _option(
            DATA,
            "Table to learn from: CSV, NPZ or Parquet. For lstm, gru and transformer a text in UTF-8.",
            "handwritten digits; the manual of Python",
            "FILE",
        ),
    ] = None,
    target: Annotated[str | None, _option(DATA, "Column to learn from all the others.", "", "COLUMN")] = None,
    task: Annotated[
        str | None, _option(DATA, "classification or regression.", "what the target looks like", "NAME")
    ] = None,
    drop: Annotated[list[str] | None, _option(DATA, "Column to leave out; may be repeated.", "", "COLUMN")] = None,
    model: Annotated[
        str | None,
        _option(
            NETWORK,
            "mlp (fully connected) for digits and tables; cnn (convolutions) for digits; lstm, gru or transformer for "
            "the characters of a text.",
            "mlp",
            "NAME",
        ),
    ] = None,
    depth: Annotated[
        int | None,
        _option(
            NETWORK, "Hidden layers.", "2; 4 convolutions; 1 layer of an lstm or gru; 3 blocks of a transformer", "N"
        ),
    ] = None,
    width: Annotated[
        int | None,
        _option(
            NETWORK,
            "Units in each of them.",
            "256, from depth 10 on 128; 32 filters of a cnn; 256 for lstm and gru; 128 for transformer",
            "N",
        ),
    ] = None,
    activation: Annotated[
        str | None,
        _option(
            NETWORK,
            "relu, leaky_relu, elu, gelu, silu, softplus, sigmoid, tanh or linear.",
            "relu; gelu for transformer",
            "NAME",
        ),
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
            "0.4 for the digits, less from depth 3 and none from depth 10 on; 0.4 for cnn, before the last layer; "
            "0 for your table and for text",
            "X",
        ),
    ] = None,
    kernel: Annotated[int | None, _option(SPECIAL, "cnn: height and width of its kernels.", "3", "N")] = None,
    shift: Annotated[
        float | None,
        _option(SPECIAL, "cnn: pixels by which training images are moved at most, anew in each epoch.", "0.7", "X"),
    ] = None,
    turn: Annotated[float | None, _option(SPECIAL, "cnn: degrees by which they are turned at most.", "10", "X")] = None,
    heads: Annotated[
        int | None, _option(SPECIAL, "transformer: heads of attention.", "4, if they divide the width", "N")
    ] = None,
    context: Annotated[
        int | None,
        _option(
            SPECIAL,
            "transformer: characters it sees at once. lstm and gru: characters after which the state starts anew; "
            "without --bptt gradients go through all of them.",
            "64 for transformer; never for lstm and gru",
            "N",
        ),
    ] = None,
    bptt: Annotated[
        int | None,
        _option(
            SPECIAL,
            "lstm and gru: steps that gradients go back through time; the state itself is carried on.",
            "64, or --context",
            "N",
        ),
    ] = None,
    optimizer: Annotated[
        str | None, _option(OPTIMISATION, "adam, adamw, sgd or rmsprop.", "adam; adamw for transformer", "NAME")
    ] = None,
    lr: Annotated[
        float | None,
        _option(
            OPTIMISATION,
            "Highest learning rate.",
            "0.03 for adam and adamw, 0.15 for sgd, 0.01 for rmsprop, divided by depth + 1; for cnn half of that; "
            "for text 0.003 with adam and adamw",
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
            "0.01 for adamw, 0.1 for text; otherwise 0.0005 for the digits up to depth 9, and 0",
            "X",
        ),
    ] = None,
    schedule: Annotated[
        str | None, _option(OPTIMISATION, "How the learning rate falls: cosine, step or constant.", "cosine", "NAME")
    ] = None,
    warmup: Annotated[
        float | None,
        _option(OPTIMISATION, "Epochs over which it rises first.", "0, from depth 10 on 1; 0.3 for transformer", "X"),
    ] = None,
    clip_norm: Annotated[
        float | None,
        _option(OPTIMISATION, "Scale a gradient with a larger norm down to this one.", "no limit; 1 for text", "X"),
    ] = None,
    clip_value: Annotated[
        float | None, _option(OPTIMISATION, "Cut every element of the gradient off at this size.", "no limit", "X")
    ] = None,
    batch_size: Annotated[
        int | None,
        _option(
            OPTIMISATION, "Rows per step; of a text, stretches.", "64; 32 for lstm and gru, 16 for transformer", "N"
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        _option(
            OPTIMISATION,
            "Passes through the training data.",
            "60, from depth 10 on 20; 8 for lstm and gru, 12 for transformer",
            "N",
        ),
    ] = None,
    dtype: Annotated[str | None, _option(OPTIMISATION, "float32 or float64.", "float32", "NAME")] = None,
    compile: Annotated[
        bool | None,
        _option(OPTIMISATION, "Run the steps as machine code: the same to rounding, faster.", "yes"),
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
    doctor: Annotated[bool, _flag("--doctor", "Watch the network as it trains and say what is wrong with it.")] = False,
    quiet: Annotated[bool, _flag("--quiet -q", "Plain lines instead of the live display.")] = False,
    debug: Annotated[bool, _flag("--debug", "Show where in the program an error comes from.")] = False,
) -> None:
    """Train a network and watch its gradients.

    Shows loss, accuracy and gradient norm as it trains (of a text bits per
    character, and what the network writes by then); then the accuracy on
    rows it has never seen and, layer by layer, how the gradient flows. A run
    folder keeps checkpoint.safetensors, metrics.jsonl, config.json, plot.png
    and doctor.html, which says whether the network can learn.
    Ctrl-C saves, --resume goes on.
    """
    from chainrule import train as training

    options = {name: parsed.params[name] for name in training.OPTIONS}
    options["data"] = None if data is None else str(data.resolve())
    options["drop"] = tuple(drop) if drop else None
    if folder is not None and not resume:
        raise training.RunError(f"{folder} alone says too little: --resume {folder} goes on, --run {folder} starts")
    if not resume:
        training.start(training.Config.choose(**options), run, overwrite=overwrite, quiet=quiet, doctor=doctor)
        return
    if overwrite:
        raise training.RunError("--resume and --overwrite exclude each other: go on with the run, or give it up")
    if folder is not None and run is not None and folder != run:
        raise training.RunError(f"--resume {folder} and --run {run} name two folders; give one")
    if (path := folder or run) is None:
        raise training.RunError("--resume needs the folder of a run: chainrule train --resume runs/NAME")
    training.resume(path, options, quiet=quiet, doctor=doctor)


SAMPLE_EXAMPLES = """
[bold]Examples[/bold]

chainrule sample runs/NAME                         some lines
chainrule sample runs/NAME --prompt "The class"    go on from your own words
chainrule sample runs/NAME --temperature 0.4       more careful
chainrule sample runs/NAME --seed 7                another draw
"""


@app.command(epilog=SAMPLE_EXAMPLES, short_help="Let a network that has learned a text write.")
def sample(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder of an lstm, gru or transformer.")],
    prompt: Annotated[str, typer.Option(help="Words to go on from.", metavar="TEXT")] = "",
    length: Annotated[int, typer.Option(help="Characters to write.", metavar="N")] = 500,
    temperature: Annotated[
        float, typer.Option(help="Below 1 more careful, above 1 bolder; 0: always the likeliest.", metavar="X")
    ] = 0.8,
    seed: Annotated[int, typer.Option(help="The same seed writes the same text.", metavar="N")] = 0,
    debug: Annotated[bool, typer.Option("--debug", help="Show where in the program an error comes from.")] = False,
) -> None:
    """Write on from a prompt, character by character, as the network of a run has learned to."""
    from chainrule import train as training

    written = training.sample(folder, length=length, temperature=temperature, seed=seed, prompt=prompt)
    typer.echo(prompt, nl=False)
    for character in written:
        typer.echo(character, nl=False)
    typer.echo()


app.command("doctor", epilog=examining.EXAMPLES, short_help="Say why a network does not train, and what cures it.")(
    examining.command
)
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
