"""Coefficients of the polynomials that elementary functions are computed with.

Each is the minimax polynomial of its degree, found by Remez' exchange algorithm in 200-bit arithmetic and rounded to
the type it is used in. What is done with them is told in `vectormath`.
"""

from __future__ import annotations

from typing import NamedTuple


class Polynomial(NamedTuple):
    """A polynomial that stands for a function on an interval.

    Attributes:
        float, double: coefficients for the two types, the constant first; empty where the type has no use for it.
        error: the largest error before rounding, for `single` and for `double`, as powers of two, relative to the value
            named beside it.
    """

    single: tuple[float, ...]
    double: tuple[float, ...]
    error: tuple[float | None, float | None]


POLYNOMIALS = {
    # (exp(r) − 1 − r) / r² as a function of r for |r| ≤ ln 2 / 2; error relative to expm1(r)
    "exp": Polynomial(
        single=(
            0.49999997,
            0.16666543,
            0.0416672,
            0.008366519,
            0.0013882413,
        ),
        double=(
            0.5,
            0.16666666666666677,
            0.04166666666666651,
            0.008333333333321691,
            0.001388888888896238,
            0.00019841269885965916,
            2.4801587172525274e-05,
            2.755724437409317e-06,
            2.75574026487827e-07,
            2.510897894671346e-08,
            2.087532948798175e-09,
        ),
        error=(-26.1, -61.7),
    ),
    # (exp(r) − 1 − r) / r² as a function of r for |r| ≤ ln 2 / 32; error relative to exp(r)
    "exp by table": Polynomial(
        single=(),
        double=(
            0.499999999999996,
            0.16666666664409174,
            0.04166666669335388,
            0.008333472191564526,
            0.0013888593490565863,
        ),
        error=(None, -56.2),
    ),
    # (2^r − 1) / r as a function of r for |r| ≤ 1/2; error relative to 2^r
    "exp2": Polynomial(
        single=(
            0.69314724,
            0.24022652,
            0.055503104,
            0.009617693,
            0.0013406645,
            0.00015594678,
        ),
        double=(
            0.6931471805599453,
            0.24022650695910072,
            0.055504108664821736,
            0.009618129107628562,
            0.001333355814638173,
            0.0001540353039317145,
            1.5252733864853681e-05,
            1.321548700374289e-06,
            1.0178047527534572e-07,
            7.054814705202775e-09,
            4.457239872651797e-10,
            2.5855428704742436e-11,
        ),
        error=(-28.5, -63.9),
    ),
    # (log(1 + f) − f + f²/2) / f³ as a function of f for 1/√2 ≤ 1 + f ≤ √2; error relative to log(1 + f)
    "log": Polynomial(
        single=(
            0.3333333,
            -0.2500082,
            0.20001227,
            -0.16623358,
            0.14201748,
            -0.13160168,
            0.12761642,
            -0.07634604,
        ),
        double=(),
        error=(-27.3, None),
    ),
    # (atanh(s) − s) / s³ as a function of s² for s of 1/√2 ≤ (1 + s)/(1 − s) ≤ √2; error relative to atanh(s)
    "atanh": Polynomial(
        single=(),
        double=(
            0.3333333333333367,
            0.19999999999707163,
            0.14285714371237151,
            0.11111099281775604,
            0.09091782431428677,
            0.07657017970915593,
            0.07398052151112156,
        ),
        error=(None, -59.4),
    ),
    # (atanh(s) − s − s³/3) / s⁵ as a function of s² for as in atanh; error relative to atanh(s)
    "atanh tail": Polynomial(
        single=(),
        double=(
            0.1999999999999999,
            0.14285714285722556,
            0.11111111108768298,
            0.09090909435150002,
            0.07692278435955378,
            0.06668158693437969,
            0.05837409552348629,
            0.059945043065675295,
        ),
        error=(None, -73.5),
    ),
    # (sin(r) − r) / r³ as a function of r² for |r| ≤ π/4; error relative to r
    "sin": Polynomial(
        single=(
            -0.16666655,
            0.008332178,
            -0.00019517227,
        ),
        double=(
            -0.16666666666666632,
            0.008333333333322427,
            -0.00019841269829817286,
            2.755731369465015e-06,
            -2.5050758464525712e-08,
            1.5896811968074878e-10,
        ),
        error=(-28.0, -58.0),
    ),
    # (cos(r) − 1 + r²/2) / r⁴ as a function of r² for |r| ≤ π/4; error relative to 1
    "cos": Polynomial(
        single=(
            0.041666646,
            -0.0013887368,
            2.4438394e-05,
        ),
        double=(
            0.0416666666666666,
            -0.001388888888887413,
            2.480158728948427e-05,
            -2.7557314352680075e-07,
            2.087572329511392e-09,
            -1.1359647975746524e-11,
        ),
        error=(-33.2, -64.2),
    ),
    # (atan(t) − t) / t³ as a function of t² for |t| ≤ tan(π/8); error relative to t
    "atan": Polynomial(
        single=(
            -0.33333316,
            0.19998491,
            -0.14243858,
            0.1059603,
            -0.060834672,
        ),
        double=(
            -0.333333333333332,
            0.19999999999954077,
            -0.14285714280247935,
            0.1111111078610583,
            -0.09090897835431323,
            0.07692061617325414,
            -0.06663120140916168,
            0.058480070277891,
            -0.05039836508250398,
            0.0380780808247937,
            -0.017922004985935543,
        ),
        error=(-30.5, -59.4),
    ),
    # (asin(s) − s) / s³ as a function of s² for s² ≤ 1/4; error relative to s
    "asin": Polynomial(
        single=(
            0.1666666,
            0.07500511,
            0.0445158,
            0.031817034,
            0.0144044645,
            0.037563015,
        ),
        double=(
            0.16666666666666763,
            0.07499999999970262,
            0.04464285717512088,
            0.030381942683592855,
            0.022372215661324767,
            0.017351600069717754,
            0.01398096174659584,
            0.01139777339806879,
            0.010786544308078813,
            0.003682982139395609,
            0.021763649153974114,
            -0.021077509655301873,
            0.03267702841571108,
        ),
        error=(-31.7, -59.8),
    ),
    # (tanh(x) − x) / x³ as a function of x² for x ≤ 0.55; error relative to tanh(x)
    "tanh": Polynomial(
        single=(
            -0.33333316,
            0.13332586,
            -0.053852245,
            0.021071335,
            -0.006273657,
        ),
        double=(
            -0.333333333333333,
            0.133333333333266,
            -0.05396825396374814,
            0.021869488385488786,
            -0.008863232595260548,
            0.0035920919663049345,
            -0.0014555424218246657,
            0.000588442696788374,
            -0.00023337689723143968,
            8.330959222303183e-05,
            -1.949035437679921e-05,
        ),
        error=(-29.8, -60.5),
    ),
    # (sinh(x) − x) / x³ as a function of x² for x² ≤ 1; error relative to x
    "sinh": Polynomial(
        single=(
            0.16666667,
            0.0083333505,
            0.00019836066,
            2.817439e-06,
        ),
        double=(
            0.16666666666666669,
            0.008333333333333139,
            0.0001984126984143768,
            2.7557319155337248e-06,
            2.5052123398494192e-08,
            1.605724034576343e-10,
            7.759312078321919e-13,
        ),
        error=(-34.0, -63.2),
    ),
    # erf(x)/x − 1 as a function of x² for x² ≤ 1; error relative to erf(x)/x
    "erf": Polynomial(
        single=(
            0.12837917,
            -0.37612626,
            0.112835854,
            -0.026853817,
            0.005188334,
            -0.0008010229,
            7.853924e-05,
        ),
        double=(
            0.1283791670955126,
            -0.3761263890318375,
            0.11283791670954857,
            -0.026866170645072893,
            0.005223977624780856,
            -0.0008548326978741631,
            0.00012055331036879736,
            -1.4925593506421793e-05,
            1.646097280952374e-06,
            -1.635002514254131e-07,
            1.4657879297249185e-08,
            -1.1365663828731092e-09,
            5.94525809532739e-11,
        ),
        error=(-29.6, -62.7),
    ),
    # log2(erfc(x)) as a function of x for 1 ≤ x ≤ 3.95; error relative to erf(x); by Lawson's algorithm in float64
    "erf tail": Polynomial(
        single=(
            -0.0037786364555358887,
            -1.6123868227005005,
            -0.9438687562942505,
            -0.12811101973056793,
            0.021397866308689117,
            -0.001669521676376462,
        ),
        double=(),
        error=(-25.9, None),
    ),
    # 2^r as a function of r for |r| ≤ 1/2, where the result is subtracted from something larger; error relative to 2^r;
    # by Lawson's algorithm in float64
    "short exp2": Polynomial(
        single=(
            1.0000001192092896,
            0.6931469440460205,
            0.24022120237350464,
            0.05550713092088699,
            0.009675540961325169,
            0.001327647129073739,
        ),
        double=(),
        error=(-23.7, None),
    ),
    # (x + 3)·exp(x²)·erfc(x) as a function of (x − 3)/(x + 3) for 1 ≤ x ≤ 28; error relative to erfc(x)
    "erfcx": Polynomial(
        single=(),
        double=(
            1.0740069070883398,
            -0.8833944531698836,
            0.5902283571041015,
            -0.310467261900561,
            0.11952776128731998,
            -0.026827234624768704,
            -0.0012124166281481457,
            0.003034062007309022,
            -0.0005483096774298002,
            -0.0002767779209506767,
            0.0001075613714101903,
            3.0398743974032732e-05,
            -1.747010914303599e-05,
            -4.752164150718179e-06,
            2.7650823676775896e-06,
            1.0081173788554017e-06,
            -4.124688780543797e-07,
            -2.4897734133958545e-07,
            6.263455018626e-08,
            5.8051949308417054e-08,
            -1.9899540152272217e-08,
            -4.013274073578589e-10,
        ),
        error=(None, -62.1),
    ),
    # 1/∛m as a function of m for 1/√8 ≤ m ≤ √8; error relative to 1/∛m
    "cbrt": Polynomial(
        single=(
            2.015126,
            -2.3866904,
            2.3059173,
            -1.2353805,
            0.33443806,
            -0.035672624,
        ),
        double=(
            2.0151258834754566,
            -2.386690420459198,
            2.305917202057043,
            -1.2353805089986278,
            0.33443804669098787,
            -0.03567262379076543,
        ),
        error=(-8.3, -8.3),
    ),
}
