"""Modules, losses and initialisers against PyTorch's of the same name, with the same state, by exchanged files too."""

import inspect

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from scipy import stats

import chainrule as cr
from chainrule import nn

F, TF = nn.functional, torch.nn.functional


def floats(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def same(ours, theirs, **tolerance):
    value = ours.data if isinstance(ours, cr.Tensor) else ours
    theirs = theirs.detach().numpy()
    assert value.dtype == theirs.dtype
    np.testing.assert_allclose(value, theirs, **{"rtol": 1e-9, "atol": 1e-11, **tolerance})


MODULES = {
    "Linear": (lambda n, kw: n.Linear(4, 3, **kw), (5, 4)),
    "Linear over more axes": (lambda n, kw: n.Linear(4, 3, **kw), (2, 5, 4)),
    "Linear without bias": (lambda n, kw: n.Linear(4, 3, bias=False, **kw), (5, 4)),
    "ReLU": (lambda n, kw: n.ReLU(), (5, 4)),
    "LeakyReLU": (lambda n, kw: n.LeakyReLU(0.1), (5, 4)),
    "ELU": (lambda n, kw: n.ELU(1.5), (5, 4)),
    "GELU": (lambda n, kw: n.GELU(), (5, 4)),
    "GELU tanh": (lambda n, kw: n.GELU(approximate="tanh"), (5, 4)),
    "SiLU": (lambda n, kw: n.SiLU(), (5, 4)),
    "Softplus": (lambda n, kw: n.Softplus(), (5, 4)),
    "Softplus beta": (lambda n, kw: n.Softplus(beta=3.0), (5, 4)),
    "Sigmoid": (lambda n, kw: n.Sigmoid(), (5, 4)),
    "Tanh": (lambda n, kw: n.Tanh(), (5, 4)),
    "Softmax": (lambda n, kw: n.Softmax(dim=1), (5, 4)),
    "LogSoftmax": (lambda n, kw: n.LogSoftmax(dim=0), (5, 4)),
    "Identity": (lambda n, kw: n.Identity(), (5, 4)),
    "Flatten": (lambda n, kw: n.Flatten(), (5, 4, 2)),
    "Flatten ends": (lambda n, kw: n.Flatten(0, 1), (5, 4, 2)),
    "BatchNorm1d": (lambda n, kw: n.BatchNorm1d(4, **kw), (5, 4)),
    "BatchNorm1d of sequences": (lambda n, kw: n.BatchNorm1d(4, momentum=0.3, eps=1e-3, **kw), (5, 4, 3)),
    "BatchNorm1d averaging": (lambda n, kw: n.BatchNorm1d(4, momentum=None, **kw), (5, 4)),
    "BatchNorm1d without affine": (lambda n, kw: n.BatchNorm1d(4, affine=False, **kw), (5, 4)),
    "BatchNorm1d without statistics": (lambda n, kw: n.BatchNorm1d(4, track_running_stats=False, **kw), (5, 4)),
    "LayerNorm": (lambda n, kw: n.LayerNorm(4, **kw), (5, 4)),
    "LayerNorm over two axes": (lambda n, kw: n.LayerNorm((3, 4), eps=1e-3, **kw), (5, 3, 4)),
    "LayerNorm without bias": (lambda n, kw: n.LayerNorm(4, bias=False, **kw), (5, 4)),
    "LayerNorm without affine": (lambda n, kw: n.LayerNorm(4, elementwise_affine=False, **kw), (5, 4)),
    "BatchNorm2d": (lambda n, kw: n.BatchNorm2d(4, **kw), (5, 4, 3, 2)),
    "GroupNorm": (lambda n, kw: n.GroupNorm(2, 4, **kw), (5, 4, 3, 2)),
    "GroupNorm of vectors": (lambda n, kw: n.GroupNorm(2, 4, eps=1e-3, **kw), (5, 4)),
    "GroupNorm without affine": (lambda n, kw: n.GroupNorm(1, 4, affine=False, **kw), (5, 4, 3)),
    "RMSNorm": (lambda n, kw: n.RMSNorm(4, **kw), (5, 4)),
    "RMSNorm over two axes": (lambda n, kw: n.RMSNorm((3, 4), eps=1e-3, **kw), (5, 3, 4)),
    "RMSNorm without affine": (lambda n, kw: n.RMSNorm(4, elementwise_affine=False, **kw), (5, 4)),
    "Conv1d": (lambda n, kw: n.Conv1d(4, 6, 3, padding="same", **kw), (5, 4, 7)),
    "Conv2d": (lambda n, kw: n.Conv2d(4, 6, (3, 2), stride=2, padding=(1, 0), groups=2, **kw), (5, 4, 7, 6)),
    "Conv2d without batch or bias": (lambda n, kw: n.Conv2d(4, 6, 3, bias=False, **kw), (4, 7, 6)),
    "Conv2d reflecting": (lambda n, kw: n.Conv2d(4, 2, 3, padding=2, padding_mode="reflect", **kw), (5, 4, 7, 6)),
    "Conv2d replicating": (lambda n, kw: n.Conv2d(4, 2, 3, padding=1, padding_mode="replicate", **kw), (5, 4, 7, 6)),
    "Conv1d circular": (lambda n, kw: n.Conv1d(4, 2, 3, padding=2, padding_mode="circular", **kw), (5, 4, 7)),
    "ConvTranspose1d": (lambda n, kw: n.ConvTranspose1d(4, 6, 3, stride=2, output_padding=1, **kw), (5, 4, 7)),
    "ConvTranspose2d": (lambda n, kw: n.ConvTranspose2d(4, 6, 3, 2, 1, groups=2, dilation=2, **kw), (5, 4, 4, 3)),
    "MaxPool1d": (lambda n, kw: n.MaxPool1d(3, 2, 1), (5, 4, 8)),
    "MaxPool2d": (lambda n, kw: n.MaxPool2d((3, 2), ceil_mode=True), (5, 4, 8, 7)),
    "AvgPool1d": (lambda n, kw: n.AvgPool1d(3, 2, 1), (5, 4, 8)),
    "AvgPool2d": (lambda n, kw: n.AvgPool2d(3, 2, 1, count_include_pad=False, divisor_override=5), (5, 4, 8, 7)),
    "AdaptiveAvgPool1d": (lambda n, kw: n.AdaptiveAvgPool1d(3), (5, 4, 8)),
    "AdaptiveAvgPool2d": (lambda n, kw: n.AdaptiveAvgPool2d((3, None)), (5, 4, 8, 7)),
    "Sequential": (
        lambda n, kw: n.Sequential(n.Linear(4, 6, **kw), n.BatchNorm1d(6, **kw), n.ReLU(), n.Linear(6, 2, **kw)),
        (5, 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("name", MODULES)
def test_a_module_gives_pytorchs_values_gradients_and_state_from_the_same_state(name, training):
    make, shape = MODULES[name]
    ours, theirs = make(nn, {"dtype": np.float64}), make(torch.nn, {"dtype": torch.float64})
    state = {
        path: torch.as_tensor(np.abs(floats(*value.shape, seed=i + 1))).to(value.dtype)
        for i, (path, value) in enumerate(theirs.state_dict().items())
    }
    theirs.load_state_dict(state)
    ours.load_state_dict(state)  # PyTorch's own tensors
    ours.train(training), theirs.train(training)
    for seed in range(3):
        x, t = cr.tensor(floats(*shape, seed=seed), requires_grad=True), torch.tensor(floats(*shape, seed=seed))
        t.requires_grad_()
        y, z = ours(x), theirs(t)
        same(y, z)
        weights = floats(*y.shape, seed=9)
        ours.zero_grad(), theirs.zero_grad()
        (y * weights).sum().backward()
        (z * torch.tensor(weights)).sum().backward()
        same(x.grad, t.grad)
        for (path, p), (other, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
            assert path == other
            same(p.grad, q.grad)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for path, value in theirs.state_dict().items():
        same(ours.state_dict()[path], value)


LOSSES = [name for name in nn.__all__ if name.endswith("Loss")]
OTHERS = [
    "Dropout", "Embedding", "MultiheadAttention", "TransformerEncoderLayer", "TransformerDecoderLayer", "RNNCell",
    "TransformerEncoder", "TransformerDecoder", "LSTMCell", "GRUCell",
]  # fmt: skip


@pytest.mark.parametrize("name", sorted({*(name.split()[0] for name in MODULES), *LOSSES, *OTHERS} - {"Sequential"}))
def test_the_arguments_of_a_module_have_pytorchs_names_order_and_defaults(name):
    ours = inspect.signature(getattr(nn, name).__init__).parameters
    theirs = inspect.signature(getattr(torch.nn, name).__init__).parameters
    ours = [p for p in ours.values() if p.name not in ("dtype", "args", "kwargs")]
    common = [p for p in theirs.values() if p.name in {q.name for q in ours}]
    assert [p.name for p in ours] == [p.name for p in common]
    for p, q in zip(ours, common, strict=False):
        # PyTorch's softmax guesses an axis when none is given, ours must be told; "relu" is the function that it names
        assert p.default == q.default or p.name in ("dim", "activation"), p.name


LOGITS, OTHER = floats(6, 4), floats(6, 4, seed=1)
PROBABILITIES = np.random.default_rng(2).dirichlet(np.ones(4), size=6)
CLASSES, WITH_IGNORED = np.array([0, 3, 1, 2, 2, 0]), np.array([0, -100, 1, 2, -100, 0])
WEIGHT = np.array([1.0, 0.5, 2.0, 3.0])
ROWS = [
    ("cross_entropy", LOGITS, CLASSES, {}),
    ("cross_entropy", LOGITS, CLASSES, {"weight": WEIGHT}),
    ("cross_entropy", LOGITS, WITH_IGNORED, {}),
    ("cross_entropy", LOGITS, WITH_IGNORED, {"weight": WEIGHT, "label_smoothing": 0.2}),
    ("cross_entropy", LOGITS, CLASSES, {"ignore_index": 2, "label_smoothing": 0.1}),
    ("cross_entropy", LOGITS, CLASSES, {"label_smoothing": 1.0}),
    ("cross_entropy", LOGITS, PROBABILITIES, {}),
    ("cross_entropy", LOGITS, PROBABILITIES, {"weight": WEIGHT, "label_smoothing": 0.2}),
    ("cross_entropy", floats(2, 4, 3), np.array([[0, 1, 3], [2, -100, 0]]), {"weight": WEIGHT, "label_smoothing": 0.1}),
    ("cross_entropy", LOGITS[0], np.array(2), {}),
    ("nll_loss", LOGITS, CLASSES, {}),
    ("nll_loss", LOGITS, WITH_IGNORED, {"weight": WEIGHT}),
    ("nll_loss", floats(2, 4, 3), np.array([[0, 1, 3], [2, -100, 0]]), {}),
    ("mse_loss", LOGITS, OTHER, {}),
    ("l1_loss", LOGITS, OTHER, {}),
    ("smooth_l1_loss", LOGITS, OTHER, {}),
    ("smooth_l1_loss", LOGITS, OTHER, {"beta": 0.5}),
    ("smooth_l1_loss", LOGITS, OTHER, {"beta": 0.0}),
    ("huber_loss", LOGITS, OTHER, {"delta": 0.5}),
    ("binary_cross_entropy", PROBABILITIES, PROBABILITIES[::-1].copy(), {"weight": WEIGHT}),
    ("binary_cross_entropy_with_logits", 5 * LOGITS, PROBABILITIES, {}),
    ("binary_cross_entropy_with_logits", 5 * LOGITS, PROBABILITIES, {"weight": WEIGHT, "pos_weight": 2 * WEIGHT}),
]  # fmt: skip


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name, input, target, options", ROWS)
def test_a_loss_gives_pytorchs_values_and_gradients(name, input, target, options, reduction):
    x, t = cr.tensor(input, requires_grad=True), torch.tensor(input, requires_grad=True)
    y = getattr(F, name)(x, target, **options, reduction=reduction)
    theirs = {key: torch.tensor(value) if isinstance(value, np.ndarray) else value for key, value in options.items()}
    z = getattr(TF, name)(t, torch.tensor(target), **theirs, reduction=reduction)
    same(y, z)
    y.sum().backward()
    z.sum().backward()
    same(x.grad, t.grad)


def test_binary_cross_entropy_is_cut_off_where_pytorchs_is():
    p, t = np.array([0.0, 1.0, 0.0, 1.0, 1e-50]), np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    y = F.binary_cross_entropy(p, t, reduction="none")
    same(y, TF.binary_cross_entropy(torch.tensor(p), torch.tensor(t), reduction="none"))


def test_other_functions_give_pytorchs_values_and_gradients():
    for call in (
        lambda n, x: n.normalize(x),
        lambda n, x: n.normalize(x, p=3.0, dim=0),
        lambda n, x: n.softmax(x, 0),
        lambda n, x: n.log_softmax(x, dim=-1),
        lambda n, x: n.leaky_relu(x, 0.3),
        lambda n, x: n.softplus(x, 2.0),
        lambda n, x: n.layer_norm(x, (4,)),
    ):
        x, t = cr.tensor(LOGITS, requires_grad=True), torch.tensor(LOGITS, requires_grad=True)
        y, z = call(F, x), call(TF, t)
        same(y, z)
        (y * OTHER).sum().backward()
        (z * torch.tensor(OTHER)).sum().backward()
        same(x.grad, t.grad)


# Initialisers -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fill",
    [
        lambda init, w: init.xavier_uniform_(w, gain=1.5),
        lambda init, w: init.xavier_normal_(w),
        lambda init, w: init.kaiming_uniform_(w, a=0.2),
        lambda init, w: init.kaiming_uniform_(w, mode="fan_out", nonlinearity="relu"),
        lambda init, w: init.kaiming_normal_(w, nonlinearity="tanh"),
        lambda init, w: init.orthogonal_(w, gain=2.0),
        lambda init, w: init.normal_(w, 1.0, 0.2),
        lambda init, w: init.uniform_(w, -1.0, 0.5),
    ],
)
def test_an_initialiser_draws_from_pytorchs_distribution(fill):
    nn.random.manual_seed(0)
    torch.manual_seed(0)
    ours = fill(nn.init, nn.Parameter(np.empty((60, 100)))).data.ravel()
    theirs = fill(torch.nn.init, torch.empty(60, 100)).numpy().ravel()
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-3


@pytest.mark.parametrize("parameter", ["weight", "bias"])
def test_a_linear_layer_starts_from_pytorchs_distribution(parameter):
    nn.random.manual_seed(1)
    torch.manual_seed(1)
    ours = getattr(nn.Linear(20, 5000), parameter).data.ravel()
    theirs = getattr(torch.nn.Linear(20, 5000), parameter).detach().numpy().ravel()
    assert stats.ks_2samp(ours, theirs).pvalue > 1e-3


@pytest.mark.parametrize("name", ["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"])
@pytest.mark.parametrize("param", [None, 0.3])
def test_gains_are_pytorchs(name, param):
    assert nn.init.calculate_gain(name, param) == pytest.approx(torch.nn.init.calculate_gain(name, param), rel=1e-15)


# Files ------------------------------------------------------------------------------------------------------


def layers(n):
    return n.Sequential(n.Linear(3, 4), n.BatchNorm1d(4), n.ReLU(), n.Linear(4, 2))


def test_a_state_dict_that_pytorch_saved_as_safetensors_loads(tmp_path):
    theirs, ours = layers(torch.nn), layers(nn)
    theirs(torch.randn(8, 3))
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    ours.load_state_dict(nn.load(tmp_path / "model.safetensors"))
    x = floats(5, 3).astype(np.float32)
    same(ours.eval()(x), theirs.eval()(torch.tensor(x)), rtol=1e-5, atol=1e-6)


def test_a_state_dict_that_we_saved_loads_in_pytorch(tmp_path):
    theirs, ours = layers(torch.nn), layers(nn)
    x = floats(8, 3).astype(np.float32)
    ours(x)
    nn.save(ours.state_dict(), tmp_path / "model.safetensors")
    theirs.load_state_dict(load_file(tmp_path / "model.safetensors"))
    same(ours.eval()(x), theirs.eval()(torch.tensor(x)), rtol=1e-5, atol=1e-6)


def test_what_torch_save_writes_is_refused_unread(tmp_path):
    for legacy in (False, True):
        torch.save(layers(torch.nn).state_dict(), tmp_path / "model.pt", _use_new_zipfile_serialization=not legacy)
        with pytest.raises(nn.CheckpointError, match=r"model\.pt: .*torch\.save .*safetensors\.torch\.save_file"):
            nn.load(tmp_path / "model.pt")


def test_the_module_tree_is_walked_in_pytorchs_order():
    ours, theirs = nn.Sequential(layers(nn), layers(nn)), torch.nn.Sequential(layers(torch.nn), layers(torch.nn))
    for walk in ("named_modules", "named_parameters", "named_buffers", "named_children"):
        assert [name for name, _ in getattr(ours, walk)()] == [name for name, _ in getattr(theirs, walk)()]
