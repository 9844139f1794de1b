"""How the tests run under pytest: the unit tests among them, who runs alone, and what is told at
the end.

Two tests run at a time (xdist, JOBS of the Makefile). One that is marked `alone`, because it
measures or changes what all share, waits until no other runs. A test that fails is run once more,
alone (rerunfailures): most expect of a drawn sample what holds in all but one of 10,000. What has
passed only then is listed at the end: something to look into.
"""
import fcntl
import os

import harness
import pytest

# What takes a minute or more, so that the end of a run is not one of these by itself.
LONG = (
    "test_heap_accuracy test_units test_hazards test_failing_calls test_cpu_hazards "
    "test_real_programs test_real_servers_cpu test_real_servers_tree test_first_minute"
).split()
ROOM = os.path.join(harness.BUILD, "test", "room")
TURN = ROOM + ".turn"


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: no other test runs meanwhile")
    os.makedirs(os.path.dirname(ROOM), exist_ok=True)


def pytest_collection_modifyitems(items):
    """Long files first. Those with tests that run alone last: elsewhere each of them would wait for
    what the other process is at, and that one for it."""
    alone = {item.path for item in items if item.get_closest_marker("alone")}
    place = {name: number for number, name in enumerate(LONG, -len(LONG))}
    items.sort(key=lambda item: (item.path in alone, place.get(item.path.stem, 0)))


@pytest.fixture(autouse=True)
def room(request):
    """Shared by the tests that run. Whoever waits to be alone is not overtaken by later ones."""
    again = getattr(request.node, "execution_count", 1) > 1
    alone = again or request.node.get_closest_marker("alone")
    with open(TURN, "w") as turn, open(ROOM, "w") as inside:
        fcntl.flock(turn, fcntl.LOCK_EX)
        fcntl.flock(inside, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(turn, fcntl.LOCK_UN)
        harness.notes.clear()
        yield
        harness.stop_everything()
        request.node.user_properties += [("note", line) for line in harness.notes]


@pytest.fixture(scope="module")
def chromium():
    from browser import Browser  # only where one is needed

    with Browser() as shared:
        yield shared


@pytest.fixture
def browser(chromium):
    """One for all tests: a new one takes longer than most of them."""
    chromium.renew()
    return chromium


class Telling:
    """What the reports of all tests say, in the process that the user looks at."""

    def __init__(self):
        self.passed, self.failed, self.skipped, self.again, self.notes = set(), set(), set(), {}, {}

    def pytest_runtest_logreport(self, report):
        name = report.nodeid
        if report.outcome == "rerun":
            self.again[name] = report.longreprtext
        elif report.failed:
            self.failed.add(name)
        elif report.skipped:
            self.skipped.add(name)
        elif report.when == "call":
            self.passed.add(name)
        if report.when == "teardown":
            self.notes[name] = [text for what, text in report.user_properties if what == "note"]

    def pytest_collectreport(self, report):
        if report.failed:  # a broken file is a failed test, not a shorter run
            self.failed.add(report.nodeid)

    def pytest_terminal_summary(self, terminalreporter):
        write = terminalreporter.write_line
        for name in sorted(self.notes):
            for text in self.notes[name]:
                write("%s: %s" % (name, text))
        for name in sorted(set(self.again) - self.failed):
            write("---- passed only when it was run again: %s\n%s" % (name, self.again[name]))

    def pytest_unconfigure(self):
        counts = [(len(self.passed - self.failed), "passed"), (len(self.failed), "failed")]
        counts += [(len(self.skipped), "skipped")] if self.skipped else []
        print(", ".join("%d %s" % pair for pair in counts), flush=True)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    if not hasattr(config, "workerinput") and not config.option.collectonly:
        config.pluginmanager.register(Telling())
