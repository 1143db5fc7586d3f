"""The whiteboard for any gradient: every value, local derivative, upstream gradient and sum, with names and numbers.

`explain` reads the recorded graph; it has no rule and no walk of its own.
"""

from chainrule.explain.explanation import Explanation, explain

__all__ = ["Explanation", "explain"]
