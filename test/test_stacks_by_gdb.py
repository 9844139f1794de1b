"""Stacks against gdb's: each is taken in the interrupted thread, which then stops, and gdb's own
backtrace is taken where it stands: 1,000 stacks of each program, SOAK=1 only. (Of x264's, found
by its code alone, up to 2 in 25 have differed; which of the two is right there is not settled.)

What is asked: where gdb's backtrace gets to the thread's root, each of its frames is in ours, in
that order (gdb passes over what has no frame pointer at that moment, and may begin after the
loader's frames), or ours is cut and the same until then. gdb is lost where it does not get there,
or has a frame that is no code: it takes all code without tables for such as keeps frame pointers.
Then ours must be the same up to the first frame that it does not know."""
import os
import signal
import subprocess

import harness
from test_unwind_oracle import NODE, ORACLE, write

SOAK = bool(os.environ.get("SOAK"))
STACKS = 1000
MARKERS = 1 << 16  # what lies below is no address
ROOTS = ("_start", "clone3", "__clone3", "clone", "__clone", "start_thread")

GDB = """
import gdb, os
for line in ("set pagination off", "set confirm off", "set backtrace past-main on",
             "handle all nostop noprint pass", "handle SIGSTOP stop print nopass"):
    gdb.execute(line, to_string=True)
gdb.execute("attach %(pid)d", to_string=True)
open("%(hold)s", "w").close()
out = open("%(answers)s", "w")

def is_code(pc):
    for line in open("/proc/%(pid)d/maps"):
        start, end = line.split()[0].split("-")
        if int(start, 16) <= pc < int(end, 16):
            return "x" in line.split()[1]
    return False

for number in range(%(stacks)d):
    gdb.execute("continue", to_string=True)
    frame, pcs, name = gdb.newest_frame(), None, ""
    while frame is not None and frame.is_valid():
        if frame.type() == gdb.SIGTRAMP_FRAME and pcs is None:
            pcs = []
        elif pcs is not None and frame.type() != gdb.INLINE_FRAME:
            name = frame.name() or ""
            if "unwind_oracle" not in (gdb.solib_name(frame.pc()) or ""):
                pcs.append("%%x%%s" %% (frame.pc(), "" if name else
                                        "?" if is_code(frame.pc()) else "!"))
        try:
            frame = frame.older()
        except gdb.error:
            name, frame = "", None
    out.write("%%s %%s\\n" %% (name or "?", " ".join(pcs or [])))
    out.flush()
gdb.execute("kill", to_string=True)
"""


def is_within(frames, others):
    """Whether the frames are among the others in that order."""
    rest = iter(others)
    return all(frame in rest for frame in frames)


def compare(ours, theirs, unknown, reaches_root):
    """What is wrong, or None. unknown: how many frames gdb has before one that it does not know."""
    if reaches_root:
        later = [theirs[0] - 1] + theirs[1:]
        good = is_within(theirs, ours) or is_within(later, ours) or ours == theirs[: len(ours)]
    else:
        sure = min(unknown, len(ours))
        good = ours[:sure] == theirs[:sure]
    return None if good else "not the same frames"


def check(comm, argv, directory):
    if not SOAK:
        raise harness.Skip("SOAK=1")
    gdb = harness.need("gdb")
    if not os.path.exists(ORACLE):
        raise harness.Skip("the unit tests are not built: make units")
    report, answers = write(directory, "report", b""), os.path.join(directory, "answers")
    hold = os.path.join(directory, "hold")
    environment = harness.agent_environment(
        address="off",
        plain=True,
        preload_after=[ORACLE],
        extra=dict(
            UNWIND_ORACLE=report,
            UNWIND_ORACLE_COMM=comm,
            UNWIND_ORACLE_HOLD=hold,
            UNWIND_ORACLE_STACKS=str(STACKS * 2),
        ),
    )
    nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    program = subprocess.Popen(
        argv, env=environment, cwd=directory, start_new_session=True, **nowhere
    )
    try:
        harness.poll(lambda: program.poll() is not None or cpu_ticks(program.pid) > 200, "its work")
        script = write(
            directory,
            "gdb.py",
            (GDB % dict(pid=program.pid, hold=hold, answers=answers, stacks=STACKS)).encode(),
        )
        done = subprocess.run(
            [gdb, "-nx", "-batch", "-iex", "set debuginfod enabled off", "-x", script],
            capture_output=True,
            text=True,
            timeout=60 + STACKS * 2,
        )
    finally:
        try:
            os.killpg(program.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        program.wait()
    with open(report) as ours, open(answers) as theirs:
        pairs = list(zip([line.split()[1:] for line in ours], [line.split() for line in theirs]))
    assert len(pairs) >= STACKS // 2, (len(pairs), done.stderr[-2000:])
    wrong, whole, same = [], 0, 0
    for mine, (root, *pcs) in pairs:
        mine = [int(frame, 16) for frame in mine if int(frame, 16) >= MARKERS]
        unknown = [pc[-1] in "?!" for pc in pcs + ["?"]].index(True)
        if any(pc[-1] == "!" for pc in pcs):
            root = "lost"
        pcs = [int(pc.rstrip("?!"), 16) for pc in pcs]
        pcs[:1] = [pc + 1 for pc in pcs[:1]]  # as an interrupted frame is in profiles
        whole += root in ROOTS
        same += mine == pcs
        fault = compare(mine, pcs, unknown, root in ROOTS) if pcs else "gdb has no frame"
        if fault:
            wrong.append(
                "%s\n  ours %s\n  gdb  %s"
                % (
                    fault,
                    " ".join("%x" % frame for frame in mine),
                    " ".join("%x" % pc for pc in pcs),
                )
            )
    harness.note(
        "%s: %d stacks, gdb's reach the root in %d; %d are the same"
        % (comm, len(pairs), whole, same)
    )
    assert not wrong, "%d of %d\n%s" % (len(wrong), len(pairs), "\n".join(wrong[:5]))
    return whole


def cpu_ticks(pid):
    stat = harness.proc_text("/proc/%d/stat" % pid)
    return sum(int(word) for word in stat.rsplit(") ", 1)[1].split()[11:13]) if stat else 0


def test_node():
    check("node", [harness.need("node"), "-e", NODE], harness.scratch())


def test_java_with_frame_pointers():
    java, javac = harness.need("java", "javac")
    directory = harness.scratch()
    write(
        directory,
        "Work.java",
        b"""
public class Work {
  static int fib(int n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
  static int text(int n) { String s = ""; for (int i = 0; i < n; i++) s += i; return s.length(); }
  static volatile int sink;
  static void work() { for (int i = 0; i < 100; i++) sink += fib(20) + text(300); }
  public static void main(String[] words) { while (sink != 1) work(); }
}
""",
    )
    subprocess.run([javac, "-d", directory, os.path.join(directory, "Work.java")], check=True)
    check(
        "java", [java, "-XX:+PreserveFramePointer", "-Xmx128m", "-cp", directory, "Work"], directory
    )


def test_numpy():
    if subprocess.run(["/usr/bin/python3", "-c", "import numpy"], capture_output=True).returncode:
        raise harness.Skip("python3-numpy is not installed")
    text = (
        "import numpy\na = numpy.random.rand(300, 300)\n"
        "while True: b = a @ a; numpy.linalg.solve(a, b[0]); numpy.sort(b, axis=None)\n"
    )
    check("python3", ["/usr/bin/python3", "-c", text], harness.scratch())


def test_ffmpeg():
    check(
        "ffmpeg",
        [
            harness.need("ffmpeg"),
            "-nostdin",
            "-loglevel",
            "error",
            "-f",
            "lavfi",
            "-i",
            "testsrc2=size=640x360:rate=30",
            "-c:v",
            "libx264",
            "-f",
            "null",
            "-",
        ],
        harness.scratch(),
    )
