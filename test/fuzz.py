#!/usr/bin/env python3
"""Random inputs under the address and undefined-behaviour sanitizers, so many seconds for each of
the unit tests that say /* fuzz: bytes */ (libFuzzer's build of them, where clang is) or
/* fuzz: rounds */.

Usage: fuzz.py SECONDS [WORD ...]     only those whose names contain one of the words
FUZZ_SEED=N in the environment: that seed; else one of the clock's, which is printed.
Inputs that reach something new are kept in build/fuzz/corpus/NAME and start the next run, with
those of test/corpus/NAME, which are committed; one that breaks something is in build/fuzz/found.
"""
import glob
import os
import re
import subprocess
import sys
import time

TEST_DIRECTORY = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(TEST_DIRECTORY)
BUILD = os.environ.get("BUILD_DIR", os.path.join(ROOT, "build"))
FUZZ = os.path.join(BUILD, "fuzz")
LONGEST_INPUT_SECONDS = 20
STOP_SECONDS = 600  # beyond its time: it hangs


def fuzzers():
    """(name of the unit test, its kind)"""
    for path in sorted(glob.glob(os.path.join(TEST_DIRECTORY, "unit_*.c"))):
        with open(path) as file:
            found = re.search(r"^/\* fuzz: (bytes|rounds) \*/$", file.read(), re.M)
        if found:
            yield os.path.basename(path)[:-2], found.group(1)


def command_of(unit, seconds, seed):
    short = unit.replace("unit_fuzz_", "")
    guided = os.path.join(FUZZ, short)
    if not os.access(guided, os.X_OK):
        return [os.path.join(BUILD, "test", unit)]
    kept, found = os.path.join(FUZZ, "corpus", short), os.path.join(FUZZ, "found")
    for directory in (kept, found):
        os.makedirs(directory, exist_ok=True)
    return [
        guided,
        kept,
        os.path.join("test", "corpus", short),
        "-seed=%d" % (seed & 0xFFFFFFFF),
        "-max_total_time=%d" % seconds,
        "-timeout=%d" % LONGEST_INPUT_SECONDS,
        "-max_len=16384",
        "-rss_limit_mb=2048",
        "-print_final_stats=1",
        "-verbosity=1",
        "-artifact_prefix=%s/%s-" % (found, short),
        "-detect_leaks=0",
    ]


def said(text):
    """What it has done, in a few words."""
    last = [line for line in text.splitlines() if re.search(r"cov: \d+ ft: \d+", line)]
    done = re.search(r"stat::number_of_executed_units: *(\d+)", text)
    if done and last:
        corpus = re.search(r"cov: (\d+) .*corp: (\d+)", last[-1])
        return "%s inputs, %s edges, %s kept" % (done.group(1), *corpus.groups())
    lines = [line for line in text.splitlines() if line and not line.startswith("FUZZ_SEED")]
    return lines[-1] if lines else ""


def main():
    seconds, words = int(sys.argv[1]), sys.argv[2:]
    seed = int(os.environ.get("FUZZ_SEED", "0"), 0) or time.time_ns() >> 10 & 0xFFFFFFFF
    environment = dict(
        os.environ,
        FUZZ_SECONDS=str(seconds),
        FUZZ_SEED=str(seed),
        ASAN_OPTIONS="detect_leaks=0:handle_abort=1",
    )
    failed = []
    print("FUZZ_SEED=%d, %d s each" % (seed, seconds), flush=True)
    for unit, _ in fuzzers():
        if words and not any(word in unit for word in words):
            continue
        try:
            done = subprocess.run(
                command_of(unit, seconds, seed),
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                errors="replace",
                timeout=seconds + STOP_SECONDS,
            )
            code, text = done.returncode, done.stdout
        except subprocess.TimeoutExpired as error:
            code, text = "none: it does not end", (error.stdout or b"").decode(errors="replace")
        print("%-4s %s: %s" % ("FAIL" if code else "ok", unit, said(text)), flush=True)
        if code:
            failed.append(unit)
            print("exit code %s\n%s" % (code, text[-8000:]), flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
