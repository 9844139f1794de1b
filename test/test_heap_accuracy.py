"""Sampling is unbiased, and its spread is that of Poisson sampling over bytes, at several rates and
over many seeds.

An allocation of s bytes is sampled with p = 1 - exp(-s/rate), independently of all others; a
sampled one counts for 1/p objects. So the estimate of n objects has the variance n(1-p)/p, that of
their bytes s^2 times as much; a function that allocates several sizes has the sum of these. z =
(estimate - truth) / SE. The sampler's seed differs from process to process: every run is an
independent draw.

Bounds. A run of this test looks at some 2,500 z (correlated: objects with bytes, allocated with in
use), so "within 3 SE" cannot be asked of
each: 0.27 % of a faithful sampler's z lie outside. Asked instead, each so that a faithful sampler
  fails the whole test less than once in 1,000:
  - one run and function (where at least 50 samples are expected, so that z is close to normal):
    |z| <= 6 (2,500 x 2e-8)
  - one rate and function, all runs added up (at least 10 samples): |z| <= 5.2 (260 x 1e-6)
  - the mean of the relative errors of the total, per rate and value: within 4.2 of its own standard
    error of 0 (20 x 3e-5)
  - share of |z| > 3 below 2 %, mean of z^2 (expected 1) between 0.6 and 1.5: the spread is as
    predicted, neither more nor less
  - where p = 1 to 15 digits (32 MB at 512 KiB) the figures are exact.
"""
import collections
import math

import harness

VALUES = ("alloc_objects", "alloc_space", "inuse_objects", "inuse_space")
MODES = (
    (524288, "full", 32),
    (65536, "full", 16),
    (1 << 20, "full", 16),
    (4096, "tiny", 10),
    (1000, "tiny", 8),
)


class Estimate:
    """Truth, variance, expected number of samples and estimate of one function's four values, added
    up over runs."""

    def __init__(self):
        self.truth, self.variance, self.samples, self.found = (
            [0.0] * 4,
            [0.0] * 4,
            [0.0] * 4,
            [0.0] * 4,
        )

    def expect(self, size, allocated, held, rate):
        p = -math.expm1(-size / rate)
        for index, (count, weight) in enumerate(
            ((allocated, 1), (allocated, size), (held, 1), (held, size))
        ):
            self.truth[index] += count * weight
            self.variance[index] += count * (1 - p) / p * weight * weight
            self.samples[index] += count * p

    def add(self, other):
        for name in ("truth", "variance", "samples", "found"):
            setattr(self, name, [a + b for a, b in zip(getattr(self, name), getattr(other, name))])

    def z(self, index):
        return (self.found[index] - self.truth[index]) / math.sqrt(self.variance[index])

    def exact(self, index):
        return self.variance[index] <= 1e-12 * max(1.0, self.truth[index] ** 2)


def one_run(program, mode, rate):
    """{function: Estimate} of one process; `total` is their sum."""
    host = harness.Host([program, mode], rate=rate)
    estimates = collections.defaultdict(Estimate)
    for words in map(str.split, host.ready()):
        assert words[0] == "bucket", words
        estimates[words[1]].expect(int(words[2]), int(words[3]), int(words[4]), rate)
    profile = host.profile("heap")
    assert profile.period == rate, profile.period
    for function, values in profile.by_leaf().items():
        if function in estimates:
            estimates[function].found = [float(value) for value in values]
    lost = harness.losses(host.health())
    assert not lost, "losses: %s" % lost
    assert host.finish() == 0
    total = Estimate()
    for estimate in list(estimates.values()):
        total.add(estimate)
    estimates["total"] = total
    return estimates


def check_family(name, estimates, bound, least_samples, all_z, wrong):
    for function, estimate in estimates.items():
        for index, value in enumerate(VALUES):
            label = "%s %s %s: truth %.0f, profile %.0f" % (
                name,
                function,
                value,
                estimate.truth[index],
                estimate.found[index],
            )
            if estimate.exact(index):
                if (
                    abs(estimate.found[index] - estimate.truth[index])
                    > 1e-9 * estimate.truth[index]
                ):
                    wrong.append(label + ": must be exact")
            elif estimate.samples[index] >= least_samples:
                z = estimate.z(index)
                all_z.append((z, function))
                if abs(z) > bound:
                    wrong.append(label + ": z = %.1f" % z)


def test_unbiased_over_rates_and_seeds():
    program = harness.build("accuracy.c", "-O2", "-fno-optimize-sibling-calls")
    run_z, pooled_z, wrong = [], [], []
    for rate, mode, runs in MODES:
        pooled = collections.defaultdict(Estimate)
        errors = [[] for _ in VALUES]
        for number in range(runs):
            estimates = one_run(program, mode, rate)
            check_family("rate %d run %d" % (rate, number), estimates, 6, 50, run_z, wrong)
            for function, estimate in estimates.items():
                pooled[function].add(estimate)
            for index in range(4):
                total = estimates["total"]
                errors[index].append(
                    (
                        total.found[index] / total.truth[index] - 1,
                        math.sqrt(total.variance[index]) / total.truth[index],
                    )
                )
        check_family("rate %d, %d runs" % (rate, runs), pooled, 5.2, 10, pooled_z, wrong)
        figures = []
        for index, value in enumerate(VALUES):
            mean = sum(error for error, _ in errors[index]) / runs
            standard_error = math.sqrt(sum(se * se for _, se in errors[index])) / runs
            figures.append("%s %+.2f%% (SE %.2f%%)" % (value, 100 * mean, 100 * standard_error))
            if abs(mean) > 4.2 * standard_error:
                wrong.append(
                    "rate %d: mean relative error of %s is %+.3f %%, its standard error %.3f %%"
                    % (rate, value, 100 * mean, 100 * standard_error)
                )
        harness.note("rate %7d, %2d runs, mean error: %s" % (rate, runs, ", ".join(figures)))
    single = [z for z, function in run_z if function != "total"]
    outside = sum(abs(z) > 3 for z in single) / len(single)
    dispersion = sum(z * z for z in single) / len(single)
    harness.note(
        "%d z of single runs: %.2f %% outside 3 SE, mean of z^2 %.2f, largest %.1f; pooled: "
        "largest %.1f"
        % (
            len(single),
            100 * outside,
            dispersion,
            max(map(abs, single)),
            max(abs(z) for z, _ in pooled_z),
        )
    )
    if outside > 0.02:
        wrong.append("%.1f %% of the z lie outside 3 SE" % (100 * outside))
    if not 0.6 < dispersion < 1.5:
        wrong.append("the mean of z^2 is %.2f" % dispersion)
    assert not wrong, "\n".join(wrong)


def test_aligned_new_over_each_allocator():
    """Rate 1 cannot see a size that is counted twice or never: far below it, each sum must be
    within 5 standard errors."""
    program = harness.build("aligned_new.cc", "-std=c++17", "-O1", "-fno-optimize-sibling-calls")
    rate = 65536
    for library in (None, "libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2"):
        for count, size, alignment in (
            (2000000, 64, 64),
            (300000, 4000, 64),
            (30000, 100000, 4096),
        ):
            host = harness.Host(
                [program, str(count), str(size), str(alignment)],
                rate=rate,
                preload_after=[harness.need_library(library)] if library else [],
            )
            host.ready()
            sums = host.profile("allocs").by_function()
            assert host.finish() == 0
            share = 1 - math.exp(-size / rate)
            error = math.sqrt((1 - share) / share / count)
            for function in ("by_aligned", "by_aligned_nothrow"):
                ratio = sums[function][0] / count
                assert (
                    abs(ratio - 1) < 5 * error
                ), "%s over %s, %d bytes: %.4f of the truth, standard error %.4f" % (
                    function,
                    library,
                    size,
                    ratio,
                    error,
                )
