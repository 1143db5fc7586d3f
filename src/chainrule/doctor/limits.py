"""The numbers beyond which something is called wrong, each with its source; all can be set otherwise.

cr.diagnose(model, loss_fn, batch, limits=Limits(zero_units=0.8))
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Limits:
    """Thresholds of the rules.

    Attributes:
        vanishing: ratio of the error signal at the first layer to that at the last below which it vanishes. PyTorch's
            initialisation alone takes a factor 0.41 per ReLU layer and pooling a half, so that healthy networks come
            down to 0.005, and train; sigmoid layers take 0.25 or more each (Glorot and Bengio 2010), and the clinic's
            sick ones begin at 3e-5.
        fading: the same where most of the loss on one batch stays, whatever was tried with the own optimiser.
        vanished: where nothing is learned any more: float32 updates are lost in rounding.
        exploding, exploded: the same ratios upwards, of the largest error signal. The clinic's healthy networks without
            normalisation stay under 5, those that do not train for it begin at 18.
        exploding_normalized: the same where over half of the layers are followed by a normalisation: batch-normalised
            plain networks grow by 1.2 per layer when they start, and train (Yang et al. 2019, "A Mean Field Theory of
            Batch Normalization").
        zero_units: share of rectified units that are zero on the whole batch: over half is worth a note, for narrow
            layers start like that now and then, and train.
        dead_units: where what is left is no layer any more: the clinic's dead layers begin at 0.87.
        trained_bias: root mean square of a bias, times √fan_in, beyond which no initialisation made it but training:
            PyTorch draws it from 0.58, others set it to 0.
        saturated: share of elements where the local derivative is under a twentieth of its maximum.
        saturated_state: the same of what a recurrent layer makes with tanh: trained ones come to 0.6 and more.
        weight_scale_low, weight_scale_high: std(weight)·√fan_in over its gain: 1 for He and Xavier initialisation, 0.41
            for PyTorch's default.
        twins: share of units that are copies of others.
        input_rms_low, input_rms_high: root mean square of the inputs; 1 is ideal (LeCun et al. 1998).
        feature_ratio: between the largest and the smallest standard deviation of input features.
        feature_offset: |mean|/std of a feature.
        feature_examples: how many examples there must be before anything is said of single features.
        common: share of the features' variance, each brought to variance 1, in one direction. The first layer's Hessian
            is the inputs' covariance (LeCun et al. 1998, section 5), whose largest eigenvalue is then the condition
            below times the mean of the others. The digits' pixels have 0.13.
        common_condition: that ratio.
        drift: by how many times the spread of activations grows or fades from the first layer to the last, without
            normalisation: along the line through their logarithms, for single narrow layers beside it mean nothing.
        update_high, update_low: length of one step as a share of the weights; about 1e-3 is usual (Karpathy 2019).
        update_leap: the same for either of the first two steps: one longer than the weights themselves leaves nothing
            of the initialisation. Healthy networks of the clinic stay under 0.9; a rate far too high begins at 6.
        warm_up: how many times smaller than its full rate the first one may be. A rate raised evenly is there after so
            many steps; more of them than small trainings have is no warm-up.
        loss_growth: factor by which the loss may grow in a few steps on the same batch.
        dead_channels: share of channels of a normalisation that pass nothing on.
        running_mismatch: distance of the running mean from the batch's, in standard deviations.
        batchnorm_numbers: over how many numbers a mean and variance must be taken. With m of them the variance is off
            by √(2/(m−1)) of itself, with 3 by all of it; Wu and He 2018, "Group Normalization", measure the cost.
        batchnorm_momentum: under which running statistics take more steps than trainings have.
        batchnorm_momentum_high: over which they overshoot the batches'; at 1 they are those of the last one.
        epsilon: over which what a normalisation adds to the variance is more than a guard against 0: PyTorch has 1e-5,
            Keras 1e-3.
        opposed: cosine between where the loss pushes the output and where the targets are: any proper loss has it above
            0, for it falls on the way to the targets.
        asks_for_classes: the same, over which a squared error is no matter of class numbers: they were made rows of
            zeros and a one first, whose squared distance is a proper score (Brier 1950). It has 0.54, numbers have 0.
        usual: the same, under which some targets are weighed far more than others; the usual losses have 0.96 and more.
        asked_for: score that free outputs must reach under the loss. In the clinic they come to 0.95 at least under
            losses that fit, to 0.77 at most under those that do not.
        bottleneck: how many times narrower than the layers around it a layer may be.
        clipped: share of steps that are clipped.
        clipping: gradient norm over the clipping norm; ten times that where only the first few steps were seen, when
            gradients are largest.
        condition: of the Hessian.
        time_vanishing, time_exploding: error signal at the first time step over that at the last; it counts where the
            gain per step is beyond `time_gain_low` or `time_gain_high` too, so that long sequences alone are no fault.
        time_gain_low, time_gain_high: factor per time step. Default starts of PyTorch have 0.55 to 0.64 and train; an
            orthogonal recurrence has 1 (Pascanu et al. 2013); the orthogonal one times 2 before ReLU has 1.27.
        related: by how many standard deviations targets of near examples must agree better than dealt-out ones. Chance
            alone comes to 4 once in 30000 times; the clinic's sound data to 11 and more.
        related_feature: the same of the feature that tells most. Where one in seven targets is the right one it comes
            to 11; where one feature of 20 explains a tenth of the targets, in 1000 examples, to 36 and more.
        displaced: the same of the targets of the row before or after. Sound data in any order come to 3, those that
            lost a row to 55 and more.
        held_out: share of the held-out loss with exchanged answers, over which nothing was learned that holds; a few
            hundred examples leave a tenth to luck. Where sound data come so far (0.9 in the clinic), `related` tells.
        momentum: beyond which swings take longer to halve than most trainings last: they do by momentum^(steps/2)
            (Goh 2017, "Why Momentum Really Works").
        overfit: share of the loss of a network that knows nothing that must be left after training on one batch.
        dropout: share of values left out over which less of it is tried: up to 0.5 is usual (Srivastava et al. 2014).
        learned: the loss over that of answers dealt out anew, under which the network does tell examples apart: noise
            that explains a quarter of squared targets, or one wrong label in three, leaves 0.75 at the best.
        like_anybodys: the same over which it tells none apart, however far the loss fell from where it started.
        known: the same on the batch as it comes, and by more than luck (`related`): such a network was trained before.
        lucky: by how many standard deviations of chance the loss of a network that knows nothing may be lower. Once in
            700 times it is.
        slow: how many times larger the loss may be than what a tuned copy reached in as many steps.
        slow_left: share of the loss that is left after four times the steps: usual optimisers leave under 0.2 on
            healthy networks, be their start as flat as an LSTM's; steps thirty times too short leave 0.5 and more.
        suspecting: whether what is beyond the limits is suspected only, and to be proved by an experiment: then
            nothing is left out because something else may make up for it.
    """

    vanishing: float = 1e-3
    fading: float = 1e-2
    vanished: float = 1e-5
    exploding: float = 15.0
    exploded: float = 1e4
    exploding_normalized: float = 150.0
    zero_units: float = 0.5
    dead_units: float = 0.75
    trained_bias: float = 6.0
    saturated: float = 0.5
    saturated_state: float = 0.8
    weight_scale_low: float = 0.12
    weight_scale_high: float = 3.0
    twins: float = 0.5
    input_rms_low: float = 0.02
    input_rms_high: float = 10.0
    feature_ratio: float = 300.0
    feature_offset: float = 30.0
    feature_examples: int = 16
    common: float = 0.9
    common_condition: float = 50.0
    drift: float = 30.0
    update_high: float = 0.3
    update_low: float = 1e-6
    update_leap: float = 3.0
    warm_up: float = 1000.0
    loss_growth: float = 2.0
    dead_channels: float = 0.5
    running_mismatch: float = 5.0
    batchnorm_numbers: int = 4
    batchnorm_momentum: float = 1e-5
    batchnorm_momentum_high: float = 1.0
    epsilon: float = 0.01
    opposed: float = -0.3
    asks_for_classes: float = 0.3
    usual: float = 0.8
    asked_for: float = 0.9
    bottleneck: float = 4.0
    clipped: float = 0.95
    clipping: float = 10.0
    condition: float = 1e7
    time_vanishing: float = 1e-3
    time_exploding: float = 10.0
    time_gain_low: float = 0.3
    time_gain_high: float = 1.2
    related: float = 4.0
    related_feature: float = 16.0
    displaced: float = 10.0
    held_out: float = 0.8
    momentum: float = 0.995
    overfit: float = 0.5
    dropout: float = 0.8
    learned: float = 0.8
    like_anybodys: float = 0.95
    known: float = 0.8
    lucky: float = 3.0
    slow: float = 5.0
    slow_left: float = 0.4
    suspecting: bool = False

    @property
    def of_suspicion(self) -> Limits:
        """Those from which on something is suspected. Healthy networks are beyond them often enough."""
        return replace(self, suspecting=True, **{name: getattr(self, name) * by for name, by in _NEARER.items()})


_NEARER = {
    "vanishing": 30.0, "fading": 3.0, "exploding": 1 / 3, "exploding_normalized": 0.2, "zero_units": 0.6,
    "dead_units": 0.6, "saturated": 0.5, "saturated_state": 0.6, "weight_scale_low": 2.0, "weight_scale_high": 0.6,
    "twins": 0.5, "dead_channels": 0.5, "running_mismatch": 0.5, "batchnorm_momentum": 200.0,
    "batchnorm_momentum_high": 0.6, "bottleneck": 0.5, "drift": 0.25, "time_vanishing": 50.0, "time_exploding": 0.3,
    "time_gain_low": 2.7, "time_gain_high": 0.88, "input_rms_low": 5.0, "input_rms_high": 0.5, "feature_ratio": 0.33,
    "feature_offset": 0.1, "common": 0.3, "common_condition": 0.1, "update_leap": 0.03, "clipped": 0.5,
    "clipping": 0.2, "overfit": 0.4, "slow": 0.6, "slow_left": 0.04, "momentum": 0.985,
}  # fmt: skip
"""By what limits are multiplied where something is suspected only."""
