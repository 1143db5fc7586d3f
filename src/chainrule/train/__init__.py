"""Training: the run that `chainrule train` makes, from options to a saved network.

    config = Config.choose(depth=3, lr=1e-3)
    outcome = start(config, path=Path("runs/mine"))

`start` and `resume` are the two ways in; `sample` lets a network that has learned a text write. Below them: what is
learned (`problem`), the networks (`networks` and `nn.MLP`), the parts a run is built of (`build`), how a network and
its optimiser go on step by step (`training`), the loop that saves and stops (`loop`), the files (`folder`), and what
is shown (`display`, `report`, `plot`).
"""

from chainrule.train.config import OPTIONS, Config
from chainrule.train.errors import Diverged, Interrupted, RunError
from chainrule.train.runs import Outcome, resume, sample, start

__all__ = ["OPTIONS", "Config", "Diverged", "Interrupted", "Outcome", "RunError", "resume", "sample", "start"]
