"""What a compiled function closes over: what makes a program unfit for a call, and what does not."""

import os
import subprocess
import sys

import numpy as np

from chainrule import nn, optim
from chainrule.compile import compile as cr_compile


def compiled_step():
    """A training step, its network, and a batch."""
    nn.random.manual_seed(0)
    model = nn.MLP(3, 4, 2, depth=1, dropout=0.5)
    optimizer = optim.Adam(model.parameters(), lr=0.1)

    @cr_compile
    def train_step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    batch = np.ones((5, 3), np.float32), np.array([0, 1, 0, 1, 1])
    return train_step, model, batch


def test_an_evaluation_between_steps_makes_no_new_program():
    step, model, batch = compiled_step()
    step(*batch)
    model.eval()
    model.train()
    step(*batch)
    assert len(step.variants) == 1
    model.eval()
    step(*batch)
    assert len(step.variants) == 2


def test_a_hook_makes_a_new_program_until_it_is_removed():
    step, model, batch = compiled_step()
    step(*batch)
    seen = []
    hook = model.register_forward_hook(lambda module, inputs, output: seen.append(output.shape))
    step.function(*batch)
    hook.remove()
    step(*batch)
    assert len(step.variants) == 1
    assert len(seen) == 1


step = 0


def test_a_global_of_the_name_of_an_attribute_is_not_closed_over():
    global step
    inner, _, batch = compiled_step()
    inner(*batch)
    step = 1  # `optimizer.step` has nothing to do with it
    inner(*batch)
    assert len(inner.variants) == 1


def test_a_compiled_function_may_call_another():
    double = cr_compile(lambda x: 2 * x)
    assert double(3.0) == 6.0
    quadruple = cr_compile(lambda x: double(double(x)))
    assert [quadruple(3.0), quadruple(4.0)] == [12.0, 16.0]
    assert len(quadruple.variants) == 1


def test_every_process_makes_the_same_program():
    code = (
        "import hashlib\n"
        "from test_capture import compiled_step\n"
        "step, model, batch = compiled_step()\n"
        "step(*batch)\n"
        "print(hashlib.sha256(repr(step.variants[0].plan.program).encode()).hexdigest())\n"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=os.path.dirname(__file__),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(digests) == 1
