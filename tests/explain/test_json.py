"""The JSON rendering keeps to its documented schema."""

import json
from importlib.resources import files

import jsonschema
import numpy as np
import pytest

from chainrule import nn
from chainrule.explain import explain
from chainrule.nn import functional as F

SCHEMA = json.loads(files("chainrule.explain").joinpath("schema.json").read_text())


def network():
    nn.random.manual_seed(0)
    m = nn.MLP(4, 8, 3, depth=20, residual=True, norm="batch")
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    return explain(m, x, loss=lambda output: F.cross_entropy(output, np.arange(5) % 3))


CASES = {
    "scalars": lambda: explain(lambda w, x: w * x + w, w=2.0, x=3.0),
    "arrays": lambda: explain(lambda w: np.split(np.tanh(w), 2)[0].sum(), w=np.ones((2, 200))),
    "forward mode": lambda: explain(lambda x: np.sin(x) * x, x=2.0, mode="forward"),
    "a seed": lambda: explain(lambda x: x * x, x=np.ones(3), seed=np.array([1.0, 0.0, np.inf])),
    "a deep network": network,
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("ignore:invalid value")
def test_the_json_keeps_to_the_schema(case):
    data = json.loads(CASES[case]().to("json"), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    jsonschema.Draft202012Validator(SCHEMA).validate(data)


def test_the_schema_refuses_what_is_not_an_explanation():
    data = json.loads(CASES["scalars"]().to("json"))
    del data["steps"][0]["shape"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(SCHEMA).validate(data)
