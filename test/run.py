#!/usr/bin/env python3
"""Runs every test_* function of test/test_*.py and every C unit test in build/test, one line a test.

Usage: run.py [-v] [WORD ...]     only the tests whose name contains one of the words
Exit code 0 when nothing failed. JOBS and time limits: none here; each test bounds its own waits (harness.py).
"""
import importlib
import os
import subprocess
import sys
import time
import traceback

TEST_DIRECTORY = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, TEST_DIRECTORY)
import harness  # noqa: E402

UNIT_TEST_SECONDS = 600


def unit_tests():
    """The Makefile builds test/unit_NAME.c into build/test/{unit,tsan}_NAME; exit code 0 is a pass."""
    directory = os.path.join(harness.BUILD, "test")
    for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
        path = os.path.join(directory, name)
        if name.startswith(("unit_", "tsan_")) and "." not in name and os.path.isfile(path) and os.access(path, os.X_OK):
            yield name, lambda path=path: run_unit_test(path)


def run_unit_test(path):
    done = subprocess.run([path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=harness.ROOT,
                          timeout=UNIT_TEST_SECONDS, errors="replace")
    if done.returncode != 0:
        raise AssertionError("exit code %d\n%s" % (done.returncode, done.stdout[-6000:]))


def python_tests():
    for file_name in sorted(os.listdir(TEST_DIRECTORY)):
        if not (file_name.startswith("test_") and file_name.endswith(".py")):
            continue
        module_name = file_name[:-3]
        try:
            module = importlib.import_module(module_name)
        except Exception:  # a broken test file is a failed test, not a shorter run
            trace = traceback.format_exc()

            def broken(trace=trace):
                raise AssertionError(trace)
            yield module_name + ".import", broken
            continue
        functions = [item for name, item in vars(module).items() if name.startswith("test_") and callable(item)]
        for function in sorted(functions, key=lambda item: item.__code__.co_firstlineno):
            yield "%s.%s" % (module_name, function.__name__), function


def main():
    words = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    verbose = "-v" in sys.argv[1:]
    passed = failed = skipped = 0
    failures = []
    for name, function in list(unit_tests()) + list(python_tests()):
        if words and not any(word in name for word in words):
            continue
        harness.notes.clear()
        started = time.monotonic()
        detail = ""
        try:
            function()
            passed += 1
            outcome = "ok"
        except harness.Skip as reason:
            skipped += 1
            outcome, detail = "skip", str(reason)
        except KeyboardInterrupt:
            raise
        except BaseException:
            failed += 1
            outcome = "FAIL"
            failures.append((name, traceback.format_exc()))
        finally:
            harness.stop_everything()
        print("%-4s %6.1f s  %s%s" % (outcome, time.monotonic() - started, name, "  (%s)" % detail if detail else ""))
        for note in harness.notes:
            print("                 %s" % note)
        if outcome == "FAIL" and verbose:
            print(failures[-1][1])
        sys.stdout.flush()
    for name, trace in failures:
        print("\n---- %s\n%s" % (name, trace))
    if skipped:
        print("%d skipped" % skipped)
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed or passed == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
