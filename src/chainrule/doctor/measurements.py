"""What is measured of a network, as plain numbers: the same for chainrule's networks and PyTorch's.

`observation` takes these measurements where values and gradients pass, `trial` by a short training run on a copy,
`curvature` from Hessian-vector products. `rules` read them. No array and no model is kept in here, so an
`Examination` can be stored, printed and compared.

Norms are Euclidean, over all elements together. Shares are numbers from 0 to 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise


@dataclass(frozen=True)
class Spread:
    """How the elements of an array are spread.

    Attributes:
        count: how many there are.
        mean, std: over the finite ones.
        smallest, largest: of the finite ones.
        zeros: share of exact zeros.
        not_finite: share of NaN and infinities.
    """

    count: int
    mean: float
    std: float
    smallest: float
    largest: float
    zeros: float
    not_finite: float


@dataclass(frozen=True)
class Histogram:
    """Counts of elements between `edges`, one fewer than those."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Activation:
    """An elementwise nonlinearity and what passed through it.

    Attributes:
        path: of the module it happened in; of the surrounding module where a function was called.
        name: the operation, by chainrule's name for it: "relu", "sigmoid", "tanh", ...
        output: spread of its values.
        zero_units: share of units that are zero for every example of the batch.
        saturated: share of elements where the local derivative is below `limits.saturated_slope` of its maximum.
        slope: root mean square of the local derivative over the batch.
        error_signal: norm of the cotangent of its output; None where none arrived.
        gain: norm of the cotangent of its input over that of its output.
        histogram: of its values.
    """

    path: str
    name: str
    output: Spread
    zero_units: float
    saturated: float
    slope: float
    error_signal: float | None
    gain: float | None
    histogram: Histogram


@dataclass(frozen=True)
class Layer:
    """A layer with weights, and the activation that follows it.

    Attributes:
        path: of the module; of the surrounding module and the parameter's name where a function was called.
        kind: "linear", "convolution", "recurrent", "embedding", "attention" or "product" (a plain matrix product).
        parameters: paths of the parameters it reads.
        fan_in, fan_out: how many numbers each output, each input, is connected with.
        units: how many units it has: features, or channels.
        size: numbers it makes for one example.
        input, output: spreads; the output is that before the activation.
        activation: the first activation after it and before the next layer with weights; None if there is none.
        normalization: path of the normalisation between the two, if there is one.
        error_signal: norm of the cotangent of the output; None where none arrived.
        gain: norm of the cotangent of the input over that of the activation's output (the weights' share times the
            activation's share); None where the input has no cotangent, as in a first layer.
        weight_gain: the weights' share: norm of the cotangent of the input over that of the output.
        weight: spread of the weights, of all its matrices together.
        weight_norm, gradient_norm: of the same.
        gradient_zeros: share of zeros in the gradient of the weights.
        update_ratio: how far one step of the optimiser moves the weights, as a share of their norm; None where it is
            not known.
        twins: share of units whose incoming weights and bias, and the gradients of both, equal those of another unit.
        gradient: histogram of the weights' gradient; None where there is none.
        skipped: whether a path leads around it (its output is added to an earlier value).
    """

    path: str
    kind: str
    parameters: tuple[str, ...]
    fan_in: int
    fan_out: int
    units: int
    size: int
    input: Spread
    output: Spread
    activation: Activation | None
    normalization: str | None
    error_signal: float | None
    gain: float | None
    weight_gain: float | None
    weight: Spread
    weight_norm: float
    gradient_norm: float | None
    gradient_zeros: float
    update_ratio: float | None
    twins: float
    gradient: Histogram | None
    skipped: bool


@dataclass(frozen=True)
class Normalization:
    """A normalisation and what passed through it.

    Attributes:
        path: of the module.
        name: "batch_norm", "layer_norm", "group_norm", "rms_norm".
        examples: how many numbers each mean and variance was taken over.
        smallest_variance: the smallest variance of its input over the group it normalises.
        dead: share of channels whose scale is under a thousandth or whose output is the same for every example.
        uses_batch: whether it went by the batch's statistics; False if by the running ones.
        running_mismatch: where it has running statistics, how far they are from the batch's: the largest
            |running mean − mean|/√variance; None where it has none.
        training: whether the network around it was in training mode.
        momentum: share by which its running statistics move to each batch's; None where there are none, or where they
            are the mean of all batches.
        skipped: whether a path leads around it: the last one of a residual branch often starts with scale zero.
        epsilon: what it adds to the variance.
        variance: the median of the variances of its input.
    """

    path: str
    name: str
    examples: int
    smallest_variance: float
    dead: float
    uses_batch: bool
    running_mismatch: float | None
    training: bool
    momentum: float | None = None
    skipped: bool = False
    epsilon: float = 0.0
    variance: float = math.inf


@dataclass(frozen=True)
class ParameterState:
    """A parameter and its gradient.

    Attributes:
        path: where it is in the network.
        shape: of it.
        trainable: whether it asks for a gradient.
        reached: whether a gradient comes to it: one that is not zero, whatever the values of the parameters are.
        optimized: whether the optimiser holds it, with a learning rate above 0; None where there is no optimiser.
        norm, gradient_norm: of it and of its gradient (0 where none came).
        gradient_zeros: share of zeros in the gradient.
        update_ratio: how far one step of the optimiser moves it, as a share of its norm; None where it is not known.
        replaced: whether the optimiser holds another one of its shape, which is no part of the network.
    """

    path: str
    shape: tuple[int, ...]
    trainable: bool
    reached: bool
    optimized: bool | None
    norm: float
    gradient_norm: float
    gradient_zeros: float
    update_ratio: float | None
    replaced: bool = False


@dataclass(frozen=True)
class Loss:
    """The loss, what it was computed from and what it was compared with.

    Attributes:
        value: its value on the batch, in the mode the network was in.
        name: the operation: "cross_entropy", "nll_loss", "mse_loss", "l1_loss", "huber_loss", "binary_cross_entropy",
            "binary_cross_entropy_with_logits", ...; "" where it was written out by hand.
        recorded: whether it depends on any parameter.
        follows: the operations that made its argument, the nearest first, at most three that change values: for
            softmax before cross-entropy, ("softmax", "linear", "relu").
        follows_path: path of the module of the nearest of them.
        output: spread of the network's output.
        output_shape: its shape.
        compared_shape: the shape of output and targets broadcast together, where the loss compares them elementwise.
        sums_to_one: share of rows (last axis) of the output that are non-negative and sum to 1.
        targets: spread of the targets.
        targets_shape: their shape.
        targets_integer: whether they are of an integer type.
        targets_whole: whether all are whole numbers.
        targets_even: whether all of those values are about as frequent: there are ten of each or more, and a χ² test
            against equal frequencies does not reject them at two standard deviations.
        classes: how many different values they have, where they are whole and there are at most 1000; else None.
        dealt: what it is where each answer is given to another example's target, which a network that knows nothing
            does not notice: the mean over several deals; None where that cannot be had.
        dealt_spread: the standard deviation over those deals: what luck does to it.
        uses_targets: whether it changes when the targets are given to other examples; None where that is not known.
        agreement: cosine between where the loss pushes an output that knows nothing and where the targets are: for
            classes up at the true one, for numbers from the output to the target. None where the two cannot be told.
    """

    value: float
    name: str
    recorded: bool
    follows: tuple[str, ...]
    follows_path: str
    output: Spread
    output_shape: tuple[int, ...]
    compared_shape: tuple[int, ...]
    sums_to_one: float
    targets: Spread | None
    targets_shape: tuple[int, ...]
    targets_integer: bool
    targets_whole: bool
    classes: int | None
    targets_even: bool = False
    agreement: float | None = None
    dealt: float | None = None
    dealt_spread: float = 0.0
    uses_targets: bool | None = None


@dataclass(frozen=True)
class Input:
    """One array of the batch that goes into the network.

    Attributes:
        spread: of all its elements.
        feature_scales: smallest and largest standard deviation of its features (last axis, or channels of images), the
            constant ones aside; None for integers.
        feature_offset: largest |mean|/std of its features; None for integers.
        integer: whether it is of an integer type, such as token numbers.
        shape: of it.
        common: share of the variance of all its features, each brought to variance 1, that lies in one direction;
            None where it has no rows of features.
        examples: of how many that was taken: of the batch, or of more of the data.
    """

    spread: Spread
    feature_scales: tuple[float, float] | None
    feature_offset: float | None
    integer: bool
    shape: tuple[int, ...]
    common: float | None = None
    examples: int = 0


@dataclass(frozen=True)
class Gaps:
    """Numbers that are not finite in what a network is given or compared with, in all of the data if there are any.

    Attributes:
        examples: how many examples have one.
        of: how many examples there are.
        first: the first row that has one.
        features: in how many columns they are: places along the last axis, or channels of images.
        of_features: how many columns there are.
    """

    examples: int
    of: int
    first: int
    features: int
    of_features: int


@dataclass(frozen=True)
class Origin:
    """Where a value that is not finite was made first.

    Attributes:
        operation: its name.
        path: of the module it happened in.
        line: "file.py:12" of the user's source; "" where it is not known.
        direction: "forward" or "backward".
        inputs: spreads of what the operation was given.
        gaps: where the inputs or targets are not finite themselves; None where they are.
    """

    operation: str
    path: str
    line: str
    direction: str
    inputs: tuple[Spread, ...]
    gaps: Gaps | None = None


@dataclass(frozen=True)
class Cut:
    """A place where values go on and gradients do not: `detach`, `no_grad`, a conversion to NumPy and back.

    Attributes:
        operation: what cut the path, where it is known: "detach", "no_grad"; else "".
        path: of the module it happened in.
        layers: paths of the layers that get no gradient because of it.
    """

    operation: str
    path: str
    layers: tuple[str, ...]


@dataclass(frozen=True)
class ThroughTime:
    """The error signal inside a recurrent layer, for a loss at the last time step; or, where a forward calls a layer of
    another kind in a loop, that of the network's own loss at each of its runs.

    Attributes:
        path: of the layer.
        kind: "rnn", "lstm", "gru", "loop".
        norms: norm of the cotangent of the hidden state at each time step, the first step first.
        cell_norms: of an LSTM's cell state; empty for others.
        gain: geometric mean of the ratio from one step to the step before it.
        spectral_radius: largest absolute eigenvalue of the recurrent matrix (of each gate's block, the largest); NaN
            where there is no such matrix by itself.
        stuck: share of elements, over units, times and examples, where a gate lets nothing in or out, or where the new
            state sits on a flat end of its tanh; by the gate's name.
    """

    path: str
    kind: str
    norms: tuple[float, ...]
    cell_norms: tuple[float, ...]
    gain: float
    spectral_radius: float
    stuck: Mapping[str, float] = field(default_factory=dict)


def mean_at_end(losses: Sequence[float]) -> float:
    """The mean over the last eighth of the losses of a run; infinite where one of them is not finite."""
    last = losses[-max(len(losses) // 8, 1) :]
    return sum(last) / len(last) if all(map(math.isfinite, losses)) else math.inf


@dataclass(frozen=True)
class Trial:
    """A short training run on a copy.

    Attributes:
        kind: "same" (on the one batch), "data" (on batches of the data), or "watched" (seen by a monitor).
        optimizer: what moved the weights, in words: "SGD, lr 0.1".
        losses: before each step, and after the last.
        gradient_norms: of all parameters together, at each step, before any clipping.
        clipped: share of steps in which the gradient was clipped; None where that is not known.
        update_ratios: median over the weight matrices of ‖update‖/‖weight‖, at each of the first few steps.
        validation: loss on held-out data before and after, where there are any.
        best: the loss that a tuned copy reached in as many steps; None where none was trained.
        best_optimizer: how that copy was trained.
        best_rate: its learning rate, of Adam.
        seconds: what it took.
        chance: the loss where the answers are given to other examples' targets: with `validation`, after training, on
            the held-out data (where `validation`'s last is no lower, nothing was learned that holds); without, before
            training, on the batch (a network that knows nothing yet starts there, a trained one far below).
        beyond_chance: with `validation`: by how many standard deviations of such exchanges the held-out loss is lower.
        longer: the loss that the own optimiser reached in four times as many steps, tried where it left much of what a
            tuned copy did not.
        slower: the mean loss over as many steps of it with a tenth or a hundredth of its learning rate, the lower of
            the two; tried there too, and where the loss rose by more than it started with.
        lowest: the lowest loss that any copy reached in four times as many steps, tried where `best` left over half.
        learned: share of the loss that the tuned copy, or the best of those, has left, of what its answers cost when
            they are given to other examples' targets: 1 where it tells no example from another.
        first_updates: ‖update‖/‖parameter‖ of each parameter at the first step of the network's own optimiser.
    """

    kind: str
    optimizer: str
    losses: tuple[float, ...]
    gradient_norms: tuple[float, ...]
    clipped: float | None
    update_ratios: tuple[float, ...]
    validation: tuple[float, float] | None
    best: float | None
    best_optimizer: str
    seconds: float
    chance: float | None = None
    beyond_chance: float | None = None
    longer: float | None = None
    slower: float | None = None
    lowest: float | None = None
    learned: float | None = None
    best_rate: float | None = None
    first_updates: Mapping[str, float] = field(default_factory=dict)

    @property
    def level(self) -> float:
        """The loss of a network that knows nothing: what the first one is to be compared with, trained or not."""
        return max(abs(self.losses[0]), 0.0 if self.validation or self.chance is None else self.chance)

    @property
    def mean(self) -> float:
        """Over the whole run; infinite where it did not stay finite."""
        return sum(self.losses) / len(self.losses) if all(map(math.isfinite, self.losses)) else math.inf

    @property
    def rises(self) -> float:
        """The sum of all steps upwards."""
        return sum(max(after - before, 0.0) for before, after in pairwise(self.losses))

    @property
    def end(self) -> float:
        """The loss at the end: the mean over the last eighth, infinite where it did not stay finite."""
        return mean_at_end(self.losses)


@dataclass(frozen=True)
class Curvature:
    """What Hessian-vector products tell of the loss where the network stands.

    Attributes:
        largest: the largest eigenvalue of the Hessian by magnitude (the sharpness, where it is positive).
        smallest: the smallest magnitude among the Ritz values that converged.
        condition: their ratio, an estimate from below.
        trace: estimate by Hutchinson's method.
        products: how many Hessian-vector products it took.
    """

    largest: float
    smallest: float
    condition: float
    trace: float
    products: int


@dataclass(frozen=True)
class Singular:
    """Singular values of the Jacobian between two places of the network, by Lanczos on JVPs and VJPs.

    Attributes:
        start, end: paths of the layers whose outputs they are.
        largest: the largest singular value.
        typical: root mean square of all of them, by Hutchinson's method.
    """

    start: str
    end: str
    largest: float
    typical: float


@dataclass(frozen=True)
class Relation:
    """Whether the data's targets have to do with the inputs, as no network but near examples tell.

    Attributes:
        examples: how many were looked at.
        neighbours: how much more the targets of nearest neighbours agree than those dealt out anew, in standard
            deviations of the latter.
        features: the same of the feature that tells most of the targets by itself.
        shifted: as `neighbours`, if each example had the target of the row before it, or after it: the larger of both.
    """

    examples: int
    neighbours: float
    features: float
    shifted: float = 0.0


@dataclass(frozen=True)
class Aim:
    """What the loss asks for, as outputs show that are free to be anything; see `aim`.

    Attributes:
        name: of the score, "accuracy" or "R²".
        before: the score of outputs drawn at random.
        after: the same after they were moved to where the loss is low; of numbers, the squared rank correlation if
            that is better.
        answers: how many there were.
    """

    name: str
    before: float
    after: float
    answers: int


@dataclass(frozen=True)
class Experiment:
    """A suspicion put to the test: two copies trained on the same batches, in one of them what is suspected taken away.

    Attributes:
        code: of the finding that is suspected.
        layers: paths of the modules that are.
        remedy: what was done, by its name in `remedies`.
        words: the same in sentences.
        steps: how long both were trained.
        measure: what they are compared by, on held-out data where there are any: "accuracy", "R²" or "loss".
        untreated, treated: what they came to.
        later: what the untreated one came to in four times as many steps.
        noise: how much of a difference may be chance.
        proves: whether the suspicion is borne out.
    """

    code: str
    layers: tuple[str, ...]
    remedy: str
    words: tuple[str, ...]
    steps: int
    measure: str
    untreated: float
    treated: float
    later: float
    noise: float
    proves: bool


@dataclass(frozen=True)
class Course:
    """Where a training that is watched goes; see `course`.

    Attributes:
        steps: until the last loss that was seen.
        first, last: medians of the first and of the last losses.
        trend: by which share of itself the loss changes in 100 steps, in the second half of them.
        significance: of that, in standard deviations of chance; under -2 the loss falls.
        plateau: the step from which on the loss stands; None where it moves.
        oscillation: correlation of neighbouring losses, the trend aside, from -1 (up and down) to 1.
        noise_scale: how many batches must be averaged for the gradient's noise to be as large as the gradient; None
            where no gradients of successive steps were seen.
        batch: examples in one.
    """

    steps: int
    first: float
    last: float
    trend: float
    significance: float
    plateau: int | None
    oscillation: float
    noise_scale: float | None
    batch: int


@dataclass(frozen=True)
class Examination:
    """Everything that was measured of a network on one batch, and, where asked, in a trial.

    Attributes:
        framework: "chainrule" or "torch".
        model: name of its class.
        training: whether it was in training mode.
        examples: length of the batch.
        layers: those with weights, in the order in which they computed.
        activations: all of them, in the order in which they computed; those of `layers` among them.
        normalizations: in the order in which they computed.
        parameters: all of them.
        loss: None where none was seen.
        inputs: arrays of the batch.
        cuts: places where the gradient's path ends though values go on.
        origin: of the first value that is not finite; None if all are finite.
        time: one per recurrent layer; empty where it was not measured.
        dropout: share that each module for it leaves out, by path; empty where the network is not training.
        trials: short training runs; empty where none was made.
        curvature: None where it was not measured.
        singular: of neighbouring layers; empty where they were not measured.
        course: of a watched training; None elsewhere.
        relation: of the data's inputs and targets; None where it was not measured.
        aim: what the loss asks for; None where it was not measured, or cannot be.
        experiments: on what was suspected; empty where nothing was.
        optimizer: the optimiser in words, and its options; empty where there is none.
        notes: what could not be measured, and why.
    """

    framework: str
    model: str
    training: bool
    examples: int
    layers: tuple[Layer, ...]
    activations: tuple[Activation, ...] = ()
    normalizations: tuple[Normalization, ...] = ()
    parameters: tuple[ParameterState, ...] = ()
    loss: Loss | None = None
    inputs: tuple[Input, ...] = ()
    cuts: tuple[Cut, ...] = ()
    origin: Origin | None = None
    time: tuple[ThroughTime, ...] = ()
    dropout: Mapping[str, float] = field(default_factory=dict)
    trials: tuple[Trial, ...] = ()
    curvature: Curvature | None = None
    singular: tuple[Singular, ...] = ()
    relation: Relation | None = None
    aim: Aim | None = None
    experiments: tuple[Experiment, ...] = ()
    course: Course | None = None
    optimizer: Mapping[str, float | str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
