"""Event files of TensorBoard: what is in them is what the monitor saw."""

import struct

import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event

import chainrule as cr
from chainrule import nn
from chainrule.doctor import DoctorError

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(32, 6)).astype(np.float32), RNG.integers(0, 3, 32)


def trained(folder, steps=5, every=2, bias=0.0):
    nn.random.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3))
    model[0].bias.data = np.full(16, bias, np.float32)
    optimizer = cr.optim.SGD(model.parameters(), lr=0.1)
    with cr.monitor(model, optimizer=optimizer, every=every, warn=False, tensorboard=folder) as monitor:
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(X), Y).backward()
            optimizer.step()
    return model, monitor


def events_in(folder):
    """By TensorBoard's framing: length, its checksum, the event, its checksum."""
    for path in sorted(folder.iterdir()):
        data, place = path.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            yield Event.FromString(data[place + 12 : place + 12 + length])
            place += 16 + length


def curves(folder):
    found = {}
    for event in events_in(folder):
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, []).append((event.step, value.simple_value))
    return found


def expected(monitor, of):
    return [(sample.step, pytest.approx(of(sample), rel=1e-6)) for sample in monitor.history]


def test_a_monitor_writes_the_curves_that_it_sees(tmp_path):
    _, monitor = trained(tmp_path / "events")
    found = curves(tmp_path / "events")
    assert found["loss"] == expected(monitor, lambda sample: sample.loss)
    assert found["gradient/norm"] == expected(monitor, lambda sample: sample.gradient_norm)
    for place, name in enumerate(("0", "2")):
        assert found[f"error_signal/{name}"] == expected(monitor, lambda s, k=place: s.layers[k].error_signal)
        assert found[f"layer_gradient/{name}"] == expected(monitor, lambda s, k=place: s.layers[k].gradient)
        assert found[f"update_ratio/{name}"] == expected(monitor, lambda s, k=place: s.layers[k].update_ratio)
    seen = [sample for sample in monitor.history if sample.noise is not None]
    assert found["gradient/noise"] == [(s.step, pytest.approx(s.noise[1], rel=1e-6)) for s in seen]
    assert len(seen) == 2  # the last step has no next one


def test_findings_are_told_in_words(tmp_path):
    _, monitor = trained(tmp_path, bias=-50.0)
    (finding, *_) = monitor.history[0].findings
    told = [value.tensor.string_val for event in events_in(tmp_path) for value in event.summary.value
            if "findings" in value.tag]  # fmt: skip
    assert any(finding.cause in text.decode() for texts in told for text in texts)


def test_a_report_writes_its_history_as_the_monitor_would_have(tmp_path):
    _, monitor = trained(tmp_path / "live")
    monitor.report().save_events(tmp_path / "later")
    assert curves(tmp_path / "later") == curves(tmp_path / "live")


def test_writing_does_not_change_the_training(tmp_path):
    for one, other in zip(trained(tmp_path)[0].parameters(), trained(None)[0].parameters(), strict=True):
        np.testing.assert_array_equal(one.detach().numpy(), other.detach().numpy())


def test_without_tensorboardx_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr("chainrule.doctor.events.find_spec", lambda name: None)
    with pytest.raises(DoctorError, match=r"need tensorboardX: pip install 'chainrule\[tensorboard\]'"):
        trained(tmp_path)


def test_a_file_in_the_place_of_the_folder_and_a_report_without_history_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DoctorError, match=r"go into a folder, and .*file is a file"):
        trained(tmp_path / "file")
    model, _ = trained(None)
    with pytest.raises(DoctorError, match="only the report of a monitor has a history"):
        cr.diagnose(model, nn.functional.cross_entropy, (X, Y)).save_events(tmp_path / "events")
