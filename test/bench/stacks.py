#!/usr/bin/env python3
"""make stacks: how many stacks of packaged programs at work are cut. Writes docs/stacks.md.

Usage: stacks.py [WORD ...]   only the programs whose name contains one of the words, to stdout
Environment: STACKS_SECONDS (default 8): of each CPU profile.
"""
import collections
import contextlib
import os
import re
import signal
import subprocess
import sys

DIRECTORY = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, DIRECTORY)
sys.path.insert(0, os.path.dirname(DIRECTORY))
import harness  # noqa: E402
import stack_programs as programs  # noqa: E402
from pprof_reader import Profile  # noqa: E402

SECONDS = int(os.environ.get("STACKS_SECONDS", "8"))
HZ = 250
WARM_TICKS = 300  # hundredths of a second of CPU time: what is compiled meanwhile has been
HEAP_RATE = 65536
PAGE = os.path.join(harness.ROOT, "docs", "stacks.md")

LARGE = (
    "by rings: stacks and frames of more than 64 KB, whose rest is read where that can be done"
    " within 0.2 ms; PPROFAGENT_CPU=timer follows all"
)
NO_FRAME_POINTER = (
    "compiled code uses the frame pointer for something else: followed only as far"
    " as the code says where it returns, which an endless loop does not"
)
LUAJIT = "its assembly keeps no frame pointer and goes on by jumps"
ERLANG = "its compiled code keeps no frame pointer and has a stack of its own"
GUILE = "compiled Scheme has a stack of its own; the machine's is not followed out of it yet"
GHC = "compiled Haskell keeps its stack in rbp and jumps; no chain leads from it to the machine's"
MONO = "frames of its code without a frame pointer; not looked into yet"
GO = (
    "C runs on another stack than the goroutine that calls it, and the runtime on one of its own;"
    " by timers: no signal is left, Go's runtime takes all"
)
INTRODUCTION = (
    """# How many stacks are whole
`make stacks` writes this page: packaged programs at work, their CPU profile (%d Hz) by rings and
by timers (README, CPU profile) and their heap profile. A stack is cut if it ends in a marker
(`[truncated: ...]`) rather than at its thread's root; of the heap's, the share of the bytes.
Guessed: the share of the samples with the label guessed_frames, whose value says how many frames of
the stack were found without unwind tables. Before: what was cut when stacks ended at the first such
frame.
Samples are few where the machine was busy: a single one may be half a percent.

"""
    % HZ
)

# before: what was cut when stacks ended at the first frame without unwind tables, if it was
# measured; child: words on the command line of the process that is looked at, if not the first.
Row = collections.namedtuple("Row", "start before child note", defaults=("", None, ""))
PROGRAMS = {
    "java -XX:+PreserveFramePointer": Row(programs.java("-XX:+PreserveFramePointer"), "85 %"),
    "java": Row(programs.java(), "85 %", note=NO_FRAME_POINTER),
    "node": Row(programs.script("node", programs.NODE), "96 %"),
    "python3": Row(programs.script("/usr/bin/python3", programs.PYTHON)),
    "perl": Row(programs.script("perl", programs.PERL)),
    "ruby": Row(programs.script("ruby", programs.RUBY)),
    "numpy (OpenBLAS)": Row(programs.numpy, "91 %", note=LARGE),
    "octave": Row(programs.script("octave-cli", programs.OCTAVE, "--norc"), "45 %", note=LARGE),
    "R": Row(programs.r, "heap 39 %", note=LARGE),
    "ffmpeg (libx264)": Row(programs.ffmpeg, "38 %", note=LARGE),
    "emacs": Row(programs.emacs, "48 %"),
    "Go with cgo": Row(programs.go, "heap 100 %", note=GO),
    "chromium, a page's process": Row(programs.chromium, "", "--type=renderer"),
    "erlang": Row(programs.erlang(), "89 %", note=ERLANG),
    "luajit": Row(programs.script("luajit", programs.LUA), "99 %", note=LUAJIT),
    "mono": Row(programs.mono, "95 %", note=MONO),
    "guile": Row(
        programs.script("guile", programs.SCHEME, "--no-auto-compile"), "90 %", note=GUILE
    ),
    "ghc's program": Row(programs.ghc, "38 %", note=GHC),
    "redis": Row(programs.redis),
    "nginx": Row(programs.nginx),
    "apache, event": Row(programs.apache, "0.1 %"),
    "postgres, a backend": Row(programs.postgres, "", "postgres: postgres postgres"),
}


def cpu_ticks(pid):
    stat = harness.proc_text("/proc/%d/stat" % pid)
    return sum(int(word) for word in stat.rsplit(") ", 1)[1].split()[11:13]) if stat else 0


def descendants(pid):
    found = []
    try:
        tasks = harness.tasks(pid)
    except FileNotFoundError:
        return found
    for task in tasks:
        words = harness.proc_text("/proc/%d/task/%d/children" % (pid, task)).split()
        for child in map(int, words):
            found += [child] + descendants(child)
    return found


def looked_at(host, child):
    """The process, as soon as it has worked for a while."""

    def look():
        assert host.process.poll() is None, host.describe()
        pids = (
            [host.pid]
            if child is None
            else [
                pid
                for pid in descendants(host.pid)
                if child in harness.proc_text("/proc/%d/cmdline" % pid).replace("\0", " ")
            ]
        )
        busy = [pid for pid in pids if cpu_ticks(pid) >= WARM_TICKS]
        return busy and busy[0]

    return harness.poll(look, "a process at work", seconds=120)


@contextlib.contextmanager
def at_work(row, **variables):
    """(host, pid) of a program under the agent, with its load."""
    directory = harness.scratch()
    command = row.start(directory)
    argv, load = command if isinstance(command, tuple) else (command, None)
    host = harness.Host(
        argv,
        rate=HEAP_RATE,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        extra=dict(variables, HOME=directory),
    )
    loading = None
    try:
        if load:  # its first calls may come before the server listens
            retried = ["/bin/sh", "-c", 'while :; do "$@"; sleep 0.2; done', "sh"] + load
            loading = subprocess.Popen(
                retried,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        yield host, looked_at(host, row.child)
    finally:
        if loading:
            os.killpg(loading.pid, signal.SIGKILL)
            loading.wait()
        for pid in reversed(descendants(host.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        harness.stop_everything()


def latest_address(host, pid):
    """The process's own port. A script may have had another before it became the program."""
    found = harness.poll(
        lambda: re.findall(r"\[%d\]: listening on http://([^/\s]+):(\d+)/" % pid, host.log()),
        "the agent's address",
    )
    return found[-1][0], int(found[-1][1])


def ask(host, pid, path):
    """The answer, None where there is none to be had (no signal is left for timers)."""
    host._address = latest_address(host, pid)
    try:
        status, _, body = host.get(path, timeout=harness.DEADLINE + SECONDS)
    except OSError as fault:
        raise AssertionError("%s: %s%s" % (path, fault, host.describe())) from None
    assert status == 200 or b"every signal" in body, (path, status, body[:300])
    return body if status == 200 else None


def shares(profile, value):
    """(sum, share that is cut, share with guessed frames, Counter of where it is cut)"""
    total = cut = guessed = 0
    where = collections.Counter()
    for sample in profile.samples:
        weight = sample.values[value]
        total += weight
        guessed += weight * ("guessed_frames" in sample.labels)
        if sample.frames[-1].function.startswith("[truncated"):
            cut += weight
            last = sample.frames[-2] if len(sample.frames) > 1 else sample.frames[-1]
            where[
                sample.frames[-1].function,
                last.function or "0x%x" % last.address,
                last.mapping and os.path.basename(last.mapping.filename),
            ] += weight
    return total, cut / max(1, total), guessed / max(1, total), where


def percent(share):
    return "%.1f %%" % (100 * share) if share else "0"


def measure(row, verbose):
    """The cells of a row, behind those of the name and of before."""
    cells, heap = [], None
    for source in ("perf", "timer"):
        with at_work(row, PPROFAGENT_CPU=source) as (host, pid):
            body = ask(host, pid, "profile?seconds=%d&hz=%d" % (SECONDS, HZ))
            if body is None:
                cells += ["none", "", ""]
                continue
            total, cut, guessed, where = shares(Profile(body), 0)
            cells += ["%d" % total, percent(cut), percent(guessed)]
            if verbose and where:
                print(source, where.most_common(8))
            if heap is None:
                heap = shares(Profile(ask(host, pid, "allocs")), 1)
                if verbose and heap[3]:
                    print("heap", heap[3].most_common(5))
    return cells + [percent(heap[1]) if heap[0] else "none"]


HEADINGS = (
    "Program",
    "before",
    "rings: samples",
    "cut",
    "guessed",
    "timers: samples",
    "cut",
    "guessed",
    "heap: cut",
    "Why",
)


def line(cells):
    return "| " + " | ".join(cells) + " |"


def table(words):
    """The page's lines, each as soon as it is known."""
    yield line(HEADINGS)
    yield line(["---"] * len(HEADINGS))
    for name, row in PROGRAMS.items():
        if words and not any(word in name for word in words):
            continue
        try:
            cells = measure(row, bool(words))
        except (harness.Skip, AssertionError) as reason:
            cells = ["not measured: %s" % str(reason).splitlines()[0][:100]] + [""] * 6
        yield line([name, row.before] + cells + [row.note])


def main():
    words = sys.argv[1:]
    lines = []
    for each in table(words):
        print(each, flush=True)
        lines.append(each)
    if not words:
        with open(PAGE, "w") as file:
            file.write(INTRODUCTION + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
