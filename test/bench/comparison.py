"""What the benchmarks share: ways to run a program, ratios of interleaved pairs, rows of a
table."""
import math
import os
import statistics
import sys

DIRECTORY = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(DIRECTORY))
import harness  # noqa: E402

ROUNDS = int(os.environ.get("BENCH_ROUNDS", "15"))
PEER_ROUNDS = int(os.environ.get("BENCH_PEER_ROUNDS", str(min(5, ROUNDS))))
ONLY = (os.environ.get("BENCH_ONLY", "") + " " + " ".join(sys.argv[1:])).split()
BUILD = os.path.join(harness.BUILD, "bench")


def tool(name):
    return os.path.join(BUILD, name)


class Setup:
    """One way to run a program: what is preloaded, with which environment."""

    def __init__(self, name, preload="", **variables):
        self.name, self.preload, self.variables = name, preload, variables

    def environment(self, name="LD_PRELOAD"):
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith("PPROFAGENT_") and key != "LD_PRELOAD"
        }
        environment.update(self.variables)
        if self.preload:
            environment[name] = self.preload
        return environment


PLAIN = Setup("plain")


class Ratios:
    def __init__(self, first, second):
        self.first, self.second = first, second
        self.all = [b / a for a, b in zip(first, second)]

    def __str__(self):
        low, _, high = (
            statistics.quantiles(self.all, n=4, method="inclusive")
            if len(self.all) > 1
            else (self.all * 3)
        )
        return "%.2f (%.2f-%.2f)" % (statistics.median(self.all), low, high)

    def interval(self):
        """(low, estimate, high): the ratio and its 95 % interval by Wilcoxon's signed ranks of the
        logarithms (Hodges and Lehmann's estimate), which runs that the machine disturbed do not
        carry away."""
        logs = [math.log(ratio) for ratio in self.all]
        means = sorted(
            (logs[i] + logs[j]) / 2 for i in range(len(logs)) for j in range(i, len(logs))
        )
        n = len(logs)
        cut = max(0, math.floor(n * (n + 1) / 4 - 1.96 * math.sqrt(n * (n + 1) * (2 * n + 1) / 24)))
        return math.exp(means[cut]), math.exp(statistics.median(means)), math.exp(means[-1 - cut])


class Interval:
    """A cell: ratio, its 95 % interval, pairs."""

    def __init__(self, ratios):
        self.low, self.estimate, self.high = ratios.interval()
        self.pairs = len(ratios.all)

    def __str__(self):
        return "%.3f [%.3f-%.3f] %d" % (self.estimate, self.low, self.high, self.pairs)


def compare(rounds, measure_a, measure_b, narrow_enough=None):
    """Pairs A B, B A, ...: `rounds` of them, or as many as narrow_enough(ratios) takes."""
    a, b = [], []
    for number in range(rounds):
        for which in ("ab", "ba")[number % 2]:
            (a if which == "a" else b).append((measure_a if which == "a" else measure_b)())
        if narrow_enough and number % 2 and narrow_enough(Ratios(a, b)):
            break
    return Ratios(a, b)


# ---- beside preloads that do less: all of them in one run --------------------------------------


def beside(address="127.0.0.1:0"):
    """Plain, the agent, and the least that a preload without and with a thread costs. The agent's
    neighbours are the two that it is compared with."""
    return [
        Setup("pthread", tool("sleeper.so")),
        PLAIN,
        Setup("agent", harness.agent(), PPROFAGENT_ADDR=address),
        Setup("empty", tool("empty.so")),
        Setup("clone", tool("bare_sleeper.so")),
    ]


def together(rounds, setups, measure):
    """{name: values}: each round measures each once, in turns forwards and backwards."""
    values = {setup.name: [] for setup in setups}
    for number in range(rounds):
        for setup in setups[::-1] if number % 2 else setups:
            values[setup.name].append(measure(setup))
    return values


PAIRS = (
    ("agent", "plain"),
    ("agent", "empty"),
    ("empty", "plain"),
    ("pthread", "plain"),
    ("clone", "plain"),
)


def heading_beside(what, unit, *more):
    heading(what, "plain, " + unit, *["%s / %s" % pair for pair in PAIRS], *more)


def row_beside(name, form, values, *more):
    row(
        name,
        form % statistics.median(values["plain"]),
        *[Ratios(values[below], values[above]) for above, below in PAIRS],
        *more
    )


def row(*cells):
    print("| %-40s |" % cells[0] + "".join(" %-18s |" % cell for cell in cells[1:]), flush=True)


def heading(*cells):
    print()
    row(*cells)
    print("|" + "-" * 42 + "|" + ("-" * 20 + "|") * (len(cells) - 1))


def wanted(name):
    return not ONLY or any(word in name for word in ONLY)
