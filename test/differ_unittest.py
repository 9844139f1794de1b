"""Runs a module of CPython's own tests (or single tests of it) and writes one line a test into a
file: differ_unittest.py FILE MODULE [TEST ...]. It is run by the interpreter that is tested."""
import os
import sys
import tempfile
import unittest

import test.support


class Lines(unittest.TestResult):
    """One line a test, so that nothing that a test prints can be taken for a result."""

    def __init__(self, file):
        super().__init__()
        self.file, self.bad = file, set()

    def say(self, test, outcome):
        self.file.write("%s\t%s\n" % (test.id(), outcome))
        self.file.flush()

    def unexpected(self, test, outcome, error):
        self.bad.add(test.id())
        last = "".join(str(error[1]).splitlines()[-1:])
        print(
            "%s: %s: %s\n%s" % (test.id(), outcome, last, self._exc_info_to_string(error, test)),
            file=sys.stderr,
        )
        self.say(test, outcome)

    def addError(self, test, error):
        self.unexpected(test, "error", error)

    def addFailure(self, test, error):
        self.unexpected(test, "failure", error)

    def addSubTest(self, test, subtest, error):
        if error is not None:
            self.unexpected(test, "failure", error)

    def addSkip(self, test, reason):
        self.say(test, "skipped")

    def addExpectedFailure(self, test, error):
        self.say(test, "expected failure")

    def addUnexpectedSuccess(self, test):
        self.say(test, "unexpected success")

    def addSuccess(self, test):
        if test.id() not in self.bad:
            self.say(test, "ok")


def every_test(suite):
    """Without those that wait for the machine around a virtual one to answer."""
    for one in suite:
        if isinstance(one, unittest.TestSuite):
            yield from every_test(one)
        elif "VSOCK" not in one.id():
            yield one


def main():
    path, module, *names = sys.argv[1:]
    test.support.use_resources = ()  # as in a distribution's build: no network, nothing huge
    with open(path, "w") as file, tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        load = unittest.defaultTestLoader.loadTestsFromName
        found = unittest.TestSuite([load(name) for name in names or ["test." + module]])
        classes = {}
        for each in every_test(found):
            classes.setdefault(type(each), []).append(each)
        suites = [unittest.TestSuite(tests) for tests in classes.values()]
        unittest.TestSuite(suites).run(Lines(file))
        file.write("end\tok\n")
        os.chdir("/")


if __name__ == "__main__":
    main()
