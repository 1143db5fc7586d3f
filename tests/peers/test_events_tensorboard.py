"""TensorBoard's own reader finds in the event files of a monitor what it saw."""

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import chainrule as cr


def test_tensorboard_reads_the_curves_of_a_watched_pytorch_training(tmp_path):
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    x, y = torch.from_numpy(rng.normal(size=(32, 6)).astype(np.float32)), torch.from_numpy(rng.integers(0, 3, 32))
    model = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with cr.monitor(model, optimizer=optimizer, every=2, tensorboard=tmp_path) as monitor:
        for _ in range(6):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    assert {"loss", "gradient/norm", "gradient/noise", "error_signal/0", "update_ratio/2"} <= set(
        read.Tags()["scalars"]
    )
    for tag, of in (("loss", lambda s: s.loss), ("error_signal/0", lambda s: s.layers[0].error_signal)):
        seen = [(event.step, event.value) for event in read.Scalars(tag)]
        assert seen == [(sample.step, pytest.approx(of(sample), rel=1e-6)) for sample in monitor.history]
