"""What tests of remedies share: small networks in the names that chainrule and PyTorch have in common."""

import runpy
from dataclasses import dataclass
from typing import Any

import numpy as np

from chainrule.data.digits import load_digits
from chainrule.doctor.diagnosis import diagnose
from chainrule.doctor.finding import Finding, Severity
from chainrule.doctor.prescription import prescribe
from chainrule.doctor.remedies import apply
from chainrule.doctor.report import Report
from chainrule.doctor.subjects import subject_of


@dataclass(frozen=True)
class Framework:
    """`nn`, `optim` and how arrays and random numbers are made there."""

    nn: Any
    optim: Any
    to: Any
    seed: Any

    def fill(self, parameter, values):
        parameter.data = self.to(np.asarray(values, np.float32))

    def subject(self, model, loss, x, y, **given):
        return subject_of(model, loss, (self.to(x), self.to(y)), **given)


def numbers(value):
    """A tensor of either framework in NumPy."""
    value = value.detach() if hasattr(value, "detach") else value
    return np.array(value.numpy() if hasattr(value, "numpy") else value)


def digits(examples=1797):
    """Standardised digits, flat."""
    found = load_digits()
    pixels = found.images.reshape(len(found.images), -1).astype(np.float64)
    x = (pixels - pixels.mean(0)) / (pixels.std(0) + pixels.std())
    return x[:examples].astype(np.float32), found.labels[:examples].astype(np.int64)


def mlp(f, depth=2, width=24, activation="ReLU", given=64, made=10, seed=0):
    f.seed(seed)
    layers = []
    for place in range(depth):
        layers += [f.nn.Linear(given if place == 0 else width, width), getattr(f.nn, activation)()]
    return f.nn.Sequential(*layers, f.nn.Linear(width, made))


def recurrent(f, kind="LSTM", seed=0):
    """A classifier of sequences by their last state."""
    nn = f.nn
    f.seed(seed)

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = getattr(nn, kind)(3, 8, batch_first=True)
            self.out = nn.Linear(8, 2)

        def forward(self, x):
            return self.out(self.rnn(x)[0][:, -1])

    return Network()


def examined(f, model, x, y, *, loss=None, optimizer=None, data=True, clip_norm=None, examples=64):
    """A diagnosis of a network on its first examples."""
    X, Y = f.to(x), f.to(y)
    return diagnose(
        model,
        loss or f.nn.functional.cross_entropy,
        (X[:examples], Y[:examples]),
        optimizer=optimizer or f.optim.SGD(model.parameters(), lr=0.05, momentum=0.9),
        data=(X, Y) if data else None,
        clip_norm=clip_norm,
    )


def finding(code, *layers):
    """A finding made by hand."""
    return Finding(code, layers[0] if layers else "", Severity.SEVERE, {}, "", tuple(layers))


def cured(report, remedy, code="slow-convergence", *where):
    """A remedy applied to the network of a report."""
    return apply(remedy, report.subject, report.examination, code=code, where=where)


def prescribed(report, code, *layers, **options):
    """What is prescribed for one finding made by hand."""
    return prescribe(Report((finding(code, *layers),), report.examination, report.subject), **options)


def pasted(tmp_path, code, **given):
    """What pasted code makes of a user's `model`, `optimizer`, `loss_fn` and `inputs`."""
    path = tmp_path / "pasted.py"
    path.write_text(code)
    return runpy.run_path(str(path), init_globals=given)


# Remedies: a sick network for each, the same for both frameworks ----------------------------------------------------


def _deep_sigmoid(f):
    return mlp(f, 5, activation="Sigmoid"), {}


def _batch_norm(f):
    f.seed(0)
    nn = f.nn
    model = nn.Sequential(nn.Linear(64, 24), nn.BatchNorm1d(24), nn.ReLU(), nn.Linear(24, 10))
    f.fill(model[1].weight, np.zeros(24))
    return model, {}


def _bottleneck(f):
    f.seed(0)
    nn = f.nn
    return nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 1), nn.ReLU(), nn.Linear(1, 10)), {}


def _softmax_twice(f):
    return f.nn.Sequential(*mlp(f), f.nn.Softmax(1)), {}


def _mse_on_classes(f):
    y = np.eye(10, dtype=np.float32)[digits()[1]]
    return mlp(f), {"loss": f.nn.functional.mse_loss, "y": y}


def _sequences(f):
    x = np.random.default_rng(0).standard_normal((300, 20, 3)).astype(np.float32)
    return recurrent(f), {"x": x, "y": (x[:, -1, 0] > 0).astype(np.int64)}


def _without_activation(f):
    f.seed(0)
    return f.nn.Sequential(f.nn.Linear(64, 24), f.nn.Linear(24, 24), f.nn.Linear(24, 10)), {}


def _heavy_dropout(f):
    f.seed(0)
    nn = f.nn
    model = nn.Sequential(nn.Linear(64, 24), nn.ReLU(), nn.Dropout(0.95), nn.Linear(24, 10))
    return model, {"optimizer": f.optim.SGD(model.parameters(), lr=0.05, weight_decay=0.3)}


def branches(f, depth=3, width=16):
    """Residual blocks without normalisation, each of two linear layers."""
    nn = f.nn
    f.seed(0)

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(width, width), nn.Linear(width, width)

        def forward(self, x):
            return x + self.second(nn.functional.relu(self.first(x)))

    return nn.Sequential(nn.Linear(64, width), *[Block() for _ in range(depth)], nn.Linear(width, 10))


def _long_tails(f):
    amounts = np.exp(3 * np.random.default_rng(0).standard_normal((1797, 64)))
    return mlp(f), {"x": amounts.astype(np.float32)}


def _own_module(f):
    """Between two layers, something that leaves nothing for the rectifier after it."""
    nn = f.nn
    f.seed(0)

    class MinusSquare(nn.Module):
        def forward(self, x):
            return -x * x

    return nn.Sequential(nn.Linear(64, 24), MinusSquare(), nn.ReLU(), nn.Linear(24, 10)), {}


def _half_held(f):
    model = mlp(f)
    return model, {"optimizer": f.optim.SGD(model[4].parameters(), lr=0.05)}


def lengths(f, length):
    """Layers whose rows have a direction, and a length as a parameter of its own."""
    nn = f.nn
    f.seed(0)

    class Rows(nn.Module):
        def __init__(self, fan_in, fan_out):
            super().__init__()
            self.direction = nn.Parameter(f.to(np.random.default_rng(fan_in).standard_normal((fan_out, fan_in)) / 1.0))
            self.length = nn.Parameter(f.to(np.full(fan_out, length)))
            self.to(f.nn.Linear(1, 1).weight.dtype)

        def forward(self, x):
            scale = self.length / (self.direction**2).sum(1).sqrt()
            return nn.functional.linear(x, self.direction * scale.reshape(-1, 1))

    return nn.Sequential(Rows(64, 24), nn.ReLU(), Rows(24, 24), nn.ReLU(), nn.Linear(24, 10))


def _alike_sequences(f):
    generator = np.random.default_rng(0)
    common = 30 * generator.standard_normal((300, 20, 1))
    x = (common + generator.standard_normal((300, 20, 3))).astype(np.float32)
    return recurrent(f), {"x": x, "y": (x[:, -1, 0] > x[:, -1, 1]).astype(np.int64)}


def _shared_width(f):
    """A state of two numbers that is handed from layer to layer."""
    nn = f.nn
    f.seed(0)

    class Handed(nn.Module):
        def __init__(self):
            super().__init__()
            self.reader, self.writer = nn.GRU(3, 2, batch_first=True), nn.GRUCell(4, 2)
            self.out = nn.Linear(2, 2)

        def forward(self, x):
            state = self.reader(x)[1][0]
            return self.out(self.writer(f.to(np.zeros((len(x), 4), np.float32)), state))

    x = np.random.default_rng(0).standard_normal((300, 20, 3)).astype(np.float32)
    return Handed(), {"x": x, "y": (x[:, -1, 0] > 0).astype(np.int64)}


SICK = {
    "activation": (_deep_sigmoid, "vanishing-gradient", ()),
    "width": (_bottleneck, "bottleneck", ("2",)),
    "initialization": (_deep_sigmoid, "vanishing-gradient", ()),
    "usual-initialization": (_deep_sigmoid, "vanishing-gradient", ()),
    "forget-gate-bias": (_sequences, "bptt-vanishing", ("rnn",)),
    "shorter-time": (_sequences, "bptt-exploding", ("rnn",)),
    "recurrent initialization": (_sequences, "bptt-vanishing", ("rnn",)),
    "normalization": (_deep_sigmoid, "vanishing-gradient", ()),
    "dead normalization": (_batch_norm, "dead-batchnorm", ("1",)),
    "residual": (_deep_sigmoid, "vanishing-gradient", ()),
    "loss": (_softmax_twice, "loss-activation-mismatch", ("5",)),
    "loss for classes": (_mse_on_classes, "wrong-loss", ()),
    "input-scaling": (_deep_sigmoid, "unscaled-input", ("0",)),
    "optimizer": (mlp_of_two := lambda f: (mlp(f), {}), "ill-conditioned", ()),
    "clipping": (mlp_of_two, "exploding-gradient", ()),
    "learning-rate": (mlp_of_two, "learning-rate-too-low", ()),
    "missing activations": (_without_activation, "cannot-overfit-batch", ()),
    "regularization": (_heavy_dropout, "cannot-overfit-batch", ()),
    "batch-size": (lambda f: (mlp(f), {"examples": 2}), "dead-batchnorm", ()),
    "input-whitening": (mlp_of_two, "ill-conditioned", ()),
    "normalized branches": (lambda f: (branches(f), {}), "missing-normalization", ()),
    "width of a state": (_sequences, "bottleneck", ("rnn",)),
    "input-logarithm": (_long_tails, "unscaled-input", ("0",)),
    "leaving-out": (_own_module, "dying-relu", ()),
    "all-parameters": (_half_held, "unused-parameter", ("0", "2")),
    "factors of weights": (lambda f: (lengths(f, 0.1), {}), "wrong-initialization", ()),
    "input-whitening of sequences": (_alike_sequences, "ill-conditioned", ()),
    "width of several layers": (_shared_width, "bottleneck", ("reader",)),
}
"""By what is done: how the sick network is made, the finding, and where."""

REMEDY_OF = {
    "recurrent initialization": "initialization",
    "dead normalization": "normalization",
    "loss for classes": "loss",
    "missing activations": "activation",
    "normalized branches": "normalization",
    "width of a state": "width",
    "factors of weights": "initialization",
    "input-whitening of sequences": "input-whitening",
    "width of several layers": "width",
}


def sick(f, name):
    """A report on the sick network of a name, its remedy, the finding's code and where; and how to make it anew."""
    make, code, where = SICK[name]
    model, given = make(f)
    x, y = given.pop("x", None), given.pop("y", None)
    pixels, labels = digits()
    x, y = (pixels if x is None else x), (labels if y is None else y)
    if name == "learning-rate":
        given["optimizer"] = f.optim.SGD(model.parameters(), lr=1e-6)
    return examined(f, model, x, y, **given), REMEDY_OF.get(name, name), code, where, x
