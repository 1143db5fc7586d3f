"""`check_grads` finds wrong derivatives, passes right ones, and is honest at kinks."""

import numpy as np
import pytest

import chainrule as cr
from chainrule.transforms.check import Finding, GradientMismatch


def wrong(factor):
    @cr.custom_vjp
    def f(x):
        return np.sin(x)

    f.defvjp(lambda x: (np.sin(x), x), lambda x, g: (g * np.cos(x) * factor,))
    return f


def test_a_right_derivative_is_excellent_to_third_order():
    report = cr.check_grads(lambda x: np.sin(x) * np.exp(x), (np.linspace(-1, 1, 5),), order=3)
    assert report.ok
    assert {f.grade for f in report.findings} == {"excellent"}
    assert {(f.order, f.mode) for f in report.findings} == {(o, m) for o in (1, 2, 3) for m in ("rev", "fwd")}


@pytest.mark.parametrize("factor", [1.01, -1.0, 0.0, 1.0001])
def test_a_wrong_derivative_is_found(factor):
    with pytest.raises(GradientMismatch, match="disagrees") as caught:
        cr.check_grads(wrong(factor), (np.linspace(-1, 1, 5),), modes=("rev",))
    assert not caught.value.report.ok


def test_a_wrong_second_derivative_is_found():
    @cr.custom_vjp
    def f(x):
        return x**3

    f.defvjp(
        lambda x: (x**3, x),
        lambda x, g: (g * 3 * x.detach() ** 2 if isinstance(x, cr.Tensor) else g * 3 * x**2,),
    )
    cr.check_grads(f, (np.array([1.0, 2.0]),), order=1, modes=("rev",))
    with pytest.raises(GradientMismatch):
        cr.check_grads(f, (np.array([1.0, 2.0]),), order=2, modes=("rev",))


def test_one_wrong_element_among_many_is_found():
    @cr.custom_vjp
    def f(x):
        return x * 1

    f.defvjp(lambda x: (x * 1, None), lambda _, g: (g * np.where(np.arange(50) == 17, 1.5, 1.0),))
    with pytest.raises(GradientMismatch):
        cr.check_grads(f, (np.ones(50),), modes=("rev",))


def test_a_kink_is_counted_and_left_out():
    report = cr.check_grads(lambda x: np.maximum(x, 0) * 2 + abs(x), (np.array([-1.0, 0.0, 2.0]),))
    assert report.ok
    assert report.kinks == 1
    assert "1 at a kink" in str(report)


def test_a_point_next_to_a_kink_is_smooth():
    report = cr.check_grads(abs, (np.array([1e-6, -1e-7, 1.0]),))
    assert report.ok
    assert report.kinks == 0


def test_a_value_outside_the_one_sided_derivatives_is_no_honest_kink():
    @cr.custom_vjp
    def f(x):
        return np.maximum(x, 0)

    f.defvjp(lambda x: (np.maximum(x, 0), x), lambda x, g: (g * (3.0 - 2.0 * (x > 0)),))
    with pytest.raises(GradientMismatch):
        cr.check_grads(f, (np.zeros(3),), modes=("rev",))


@pytest.mark.parametrize(
    ("error", "grade"), [(1e-8, "excellent"), (1e-6, "acceptable"), (1e-4, "doubtful"), (1e-2, "bug")]
)
def test_grades_follow_the_thresholds(error, grade):
    assert Finding(1, "rev", "x", error, 0, 3, 3).grade == grade


def test_it_works_in_float64_whatever_it_is_given():
    report = cr.check_grads(np.tanh, (np.float32([0.1, 0.2]),))
    assert report.error < 1e-8


def test_pytrees_and_integers_are_arguments_like_any():
    report = cr.check_grads(lambda p, n: [p["x"] ** n, p["y"] * 2], ({"x": np.ones(2), "y": 3.0}, 3))
    assert len(report.findings) == 4


def test_it_reports_without_raising_when_asked():
    assert not cr.check_grads(wrong(2.0), (np.ones(2),), modes=("rev",), raise_on_failure=False).ok


def test_bad_calls():
    with pytest.raises(ValueError, match="modes"):
        cr.check_grads(np.sin, (1.0,), modes=("sideways",))
    with pytest.raises(ValueError, match="floating point"):
        cr.check_grads(np.sin, (1,))
