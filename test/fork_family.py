"""What the tests of fork share: a program that forks on a port of its own, and its children."""
import harness
from process_tree import Port

FLAGS = ("-O1", "-fno-optimize-sibling-calls")
EVERYTHING = {"PPROFAGENT_BLOCKPROFILERATE": "1", "PPROFAGENT_MUTEXPROFILEFRACTION": "1"}


def ways():
    return harness.build("fork_ways.c", *FLAGS, "-lutil")


def confined():
    return harness.build("fork_confined.c", *FLAGS)


class Family:
    """A program that forks, on a port of its own."""

    def __init__(self, argv, rate=1, **options):
        self.port = Port()
        self.host = harness.Host(
            [str(word) for word in argv], rate=rate, address=self.port.address, **options
        )

    def await_others(self, count):
        """The pids of the other processes, once there are so many and all have answered."""

        def look():
            found = self.port.processes()
            others = [pid for pid in found if pid != self.host.pid]
            return (
                (others,)
                if found
                and len(others) == count
                and all(entry["answered"] for entry in found.values())
                else None
            )

        try:
            return harness.poll(look, "%d other processes" % count)[0]
        except AssertionError as error:
            raise AssertionError(
                "%s; there are %s%s" % (error, self.port.processes(), self.host.describe())
            ) from None

    def check_served(
        self,
        pids,
        paths=(
            "",
            "heap",
            "allocs?debug=1",
            "goroutine?debug=2",
            "threadcreate",
            "block",
            "mutex?debug=1",
            "cmdline",
        ),
    ):
        """Every endpoint of each, as of a process that has just started."""
        for pid in pids:
            health = self.port.health(pid)
            assert health["process"]["pid"] == pid, health
            for path in paths:
                assert self.port.ok(path, pid), (pid, path)

    def check_as_plain(self, looks=(), lines=()):
        """The host's lines and exit code are those of a run without the agent; looks: what to do at
        each `ready`. `lines`: to be among them."""
        argv = self.host.process.args
        plain = harness.run(argv, plain=True, stdin=b"\n" * 20)
        expected = plain.stdout.decode().splitlines()
        assert set(lines) <= set(expected), expected
        found, looks = [], list(looks)
        while len(found) < len(expected):
            found.append(self.host.line())
            if found[-1] == "ready":
                if looks:
                    looks.pop(0)()
                self.host.go_on()
            assert found[-1] == expected[len(found) - 1], (found, expected)
        code = self.host.finish()
        rest = self.host.process.stdout.read()
        assert (code, rest, self.host.stderr()) == (plain.returncode, b"", plain.stderr.decode()), (
            code,
            plain,
            rest,
            self.host.describe(),
        )
        assert not looks, "the program was not ready as often as that"


def read_truth(host, who):
    """(pid, {function: values as pprof has them}) that a process of fork_profiles.c says."""
    words = host.line().split()
    assert words[0] == who, words
    found = {}
    for _ in range(2):
        line = host.line().split()
        found[line[1]] = [int(word) for word in line[2:]]
    return int(words[1]), found


def check_way(mode, looks, rate=1, lines=(), program=None, **options):
    family = Family([program or ways()] + mode.split(), rate=rate, **options)
    family.check_as_plain([look(family) if look else (lambda: None) for look in looks], lines)
    return family
