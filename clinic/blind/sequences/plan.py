"""Sick settings: networks and losses that were planned wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain

from clinic.blind.sequences import broken, losses, networks
from clinic.blind.sequences.healthy import CHARACTERS, HEALTHY
from clinic.blind.sequences.problems import SYMBOLS
from clinic.case import Patient
from clinic.faults import losses as losses_before
from clinic.faults.networks import ending_in_function
from clinic.sickness import CHAINRULE, TORCH, Sickness, spoiled
from clinic.wider.broken import with_unread

sick = partial(spoiled, HEALTHY)


def only_head_in_optimizer(patient: Patient) -> None:
    """An optimiser that was given the parameters of the last layer."""
    (group,) = patient.optimizer.param_groups
    options = {name: group[name] for name in ("lr", "momentum")}
    patient.optimizer = type(patient.optimizer)(patient.model.head.parameters(), **options)


def _non_finite() -> Iterator[Sickness]:
    fault = "non-finite"
    counts, forecasts = HEALTHY["rnn-counts"], HEALTHY["lstm-forecasts"]
    reversal = HEALTHY["transformer-reversal"]
    yield sick(
        fault, "own-spread", counts.name, network=broken.after(counts.network, broken.own_spread), layers=("scale",)
    )
    yield sick(
        fault,
        "root-of-negative",
        forecasts.name,
        network=broken.after(forecasts.network, broken.root),
        layers=("scale",),
        frameworks=CHAINRULE,
    )
    yield sick(fault, "length-of-zero-state", "rnn-forecasts", network=broken.state_of_unit_length, layers=("scale",))
    places = tuple(f"blocks.{place}.attention" for place in range(2))
    yield sick(
        fault,
        "blanks-see-nothing",
        reversal.name,
        network=broken.spoiled_attention(reversal.network, broken.usual_scores, pads=True),
        layers=places,
    )


def _unused_parameter() -> Iterator[Sickness]:
    fault = "unused-parameter"
    yield sick(
        fault,
        "one-direction-read",
        "rnn-tags",
        network=partial(broken.one_direction_read, vocabulary=CHARACTERS),
        layers=("rnn",),
    )
    yield sick(
        fault,
        "forgotten-norms",
        "rnn-waves-stack",
        network=broken.forgotten_norms,
        layers=("norms", "norms.1", "norms.2"),
        harm=False,
        frameworks=CHAINRULE,
    )
    reversal = HEALTHY["transformer-reversal"]
    yield sick(
        fault,
        "unread-segments",
        reversal.name,
        network=with_unread(reversal.network, "segments", lambda f: f.nn.Embedding(2, 24)),
        layers=("segments",),
        harm=False,
    )
    # Every module but the head, for any of them is a place that is not trained.
    block = ("", ".norm1", ".attention", ".norm2", ".feed_forward", ".feed_forward.0", ".feed_forward.2")
    attention = tuple(f".attention.{name}" for name in ("query", "key", "value", "out"))
    inside = tuple(f"blocks.{place}{part}" for place in range(2) for part in (*block, *attention))
    yield sick(
        fault,
        "head-in-optimizer",
        "transformer-gestures",
        history=only_head_in_optimizer,
        layers=("embed", "blocks", "norm", *inside),
    )


def _detached_graph() -> Iterator[Sickness]:
    fault = "detached-graph"
    yield sick(
        fault,
        "encoder",
        "rnn-reversal",
        network=partial(networks.encoder_decoder, vocabulary=SYMBOLS, detach=True),
        layers=("embed", "encoder"),
    )
    reversal = HEALTHY["transformer-reversal"]
    yield sick(
        fault,
        "attention-without-gradient",
        reversal.name,
        network=broken.spoiled_attention(reversal.network, broken.scores_without_gradient),
        layers=tuple(f"blocks.{place}.attention{part}" for place in range(2) for part in ("", ".query", ".key")),
    )
    yield sick(
        fault, "between-cells", "lstm-gestures", network=broken.cut_between_cells, layers=("lower",), frameworks=TORCH
    )


def _loss_activation_mismatch() -> Iterator[Sickness]:
    fault = "loss-activation-mismatch"
    outside = ("", "net", "net.head")
    motifs, counts, forecasts = HEALTHY["lstm-motifs"], HEALTHY["rnn-counts"], HEALTHY["rnn-forecasts"]
    tags, brackets = HEALTHY["rnn-tags"], HEALTHY["rnn-brackets"]
    yield sick(
        fault, "sigmoid-twice", motifs.name, network=ending_in_function(motifs.network, "sigmoid"), layers=outside
    )
    yield sick(
        fault,
        "relu-before-numbers",
        counts.name,
        network=ending_in_function(counts.network, "relu"),
        layers=outside,
        frameworks=TORCH,
    )
    yield sick(
        fault,
        "sigmoid-before-numbers",
        forecasts.name,
        network=ending_in_function(forecasts.network, "sigmoid"),
        layers=(*outside, "net.head.2"),
        frameworks=CHAINRULE,
    )
    yield sick(
        fault,
        "softmax-over-time",
        tags.name,
        network=ending_in_function(tags.network, "softmax", dim=1),
        layers=outside,
    )
    yield sick(fault, "no-log-softmax", brackets.name, loss=losses_before.without_softmax, layers=("head",))
    alarms = HEALTHY["transformer-alarms"]
    yield sick(
        fault,
        "softmax-twice",
        alarms.name,
        network=ending_in_function(alarms.network, "softmax", dim=-1),
        layers=outside,
        frameworks=TORCH,
    )


def _wrong_loss() -> Iterator[Sickness]:
    fault = "wrong-loss"
    yield sick(fault, "shifted-again", "transformer-sentences", loss=losses.shifted_again)
    yield sick(fault, "reshaped-not-swapped", "rnn-tags", loss=losses.reshaped_not_swapped)
    yield sick(fault, "first-step-only", "rnn-reversal", loss=losses.first_step_only, frameworks=CHAINRULE)
    yield sick(fault, "mean-of-columns", "rnn-forecasts", loss=losses.mean_of_columns, frameworks=TORCH)
    # Outputs and targets of different examples are compared: by a loss that asks for it, so that targets have nothing
    # to do with their inputs.
    yield sick(
        fault,
        "sorted-not-back",
        "transformer-gestures",
        loss=losses.sorted_by_first_class,
        accepted=("shuffled-labels",),
    )
    yield sick(fault, "broadcast", "transformer-adding", loss=losses_before.column_against_row, frameworks=TORCH)


def _bottleneck() -> Iterator[Sickness]:
    fault = "bottleneck"
    sentences, brackets = HEALTHY["transformer-sentences"], HEALTHY["transformer-brackets"]
    yield sick(
        fault,
        "code-of-two",
        "rnn-reversal",
        network=partial(networks.encoder_decoder, vocabulary=SYMBOLS, width=2),
        layers=("encoder", "decoder"),
    )
    yield sick(
        fault,
        "one-unit-before-characters",
        sentences.name,
        network=broken.squeezed_head(sentences.network, path="out"),
        layers=("out.0", "out"),
    )
    yield sick(
        fault,
        "one-channel",
        "rnn-digits-filtered",
        network=partial(networks.convolution_first, channels=1),
        layers=("features.0", "features.1", "features.2", "features"),
        frameworks=TORCH,
    )
    yield sick(
        fault,
        "one-unit",
        brackets.name,
        network=broken.squeezed_head(brackets.network),
        layers=("head.0", "head"),
        frameworks=CHAINRULE,
    )
    yield sick(
        fault,
        "one-unit",
        "lstm-digits-small-batches",
        network=partial(networks.reader, kind="LSTM", width=1),
        layers=("rnn",),
        frameworks=CHAINRULE,
    )


def _cannot_overfit_batch() -> Iterator[Sickness]:
    fault = "cannot-overfit-batch"
    yield sick(
        fault,
        "without-order",
        "transformer-reversal",
        network=partial(networks.attentive, vocabulary=SYMBOLS, last=4, order=False),
    )
    yield sick(
        fault,
        "linear-recurrence",
        "lstm-adding",
        network=partial(networks.leaky_recurrence, leak=0.5, activation="linear"),
        adjust=lambda f, model: None,
    )
    yield sick(fault, "dropout-0.97", "lstm-gestures", network=partial(networks.stacked_cells, dropout=0.97))


SICK = tuple(
    chain(
        _non_finite(),
        _unused_parameter(),
        _detached_graph(),
        _loss_activation_mismatch(),
        _wrong_loss(),
        _bottleneck(),
        _cannot_overfit_batch(),
    )
)
