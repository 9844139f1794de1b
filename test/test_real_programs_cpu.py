"""CPU profiles of packaged programs at work: their output and exit code are their own, and the
functions known to work are in the profile."""
import collections
import glob
import json
import os
import re
import subprocess

import harness
from packaged_programs import check, cpu_profile
from pprof_reader import bare


def test_python_threads():
    python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else harness.need("python3")
    script = (
        "import hashlib, sys, threading, zlib\n"
        "stop, counts = threading.Event(), {}\n"
        "def hashing():\n"
        "    data = b'x' * 1000000\n"
        "    while not stop.is_set(): counts['hash'] = hashlib.sha256(data).hexdigest()\n"
        "def packing():\n"
        "    data = bytes(range(256)) * 4000\n"
        "    while not stop.is_set(): counts['pack'] = len(zlib.compress(data, 9))\n"
        "def counting():\n"
        "    while not stop.is_set(): counts['sum'] = sum(i * i for i in range(20000))\n"
        "threads = [threading.Thread(target=f) for f in (hashing, packing, counting)]\n"
        "for t in threads: t.start()\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "stop.set()\n"
        "for t in threads: t.join()\n"
        "print(sorted(counts.items()))\n"
        "sys.exit(7)\n"
    )
    expected = harness.run([python, "-c", script], stdin=b"\n", plain=True)
    host = harness.Host([python, "-c", script])
    assert host.ready() == []
    profile = cpu_profile(host)
    check(profile, ["_PyEval_EvalFrameDefault", "deflate"])
    busy = collections.Counter()
    for sample in profile.samples:
        busy[sample.labels["tid"]] += sample.values[0]
    assert len([count for count in busy.values() if count > 30]) == 3, busy
    host.go_on()
    assert (
        host.line() == expected.stdout.decode().splitlines()[1]
        and host.finish() == expected.returncode == 7
    )
    assert host.stderr() == ""


NODE_SCRIPT = (
    "function fibonacci(n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }\n"
    "const crypto = require('crypto');\n"
    "let stop = false, result = 0;\n"
    "process.stdin.once('data', () => { stop = true; });\n"
    "console.log('ready');\n"
    "function step() { result = fibonacci(24); "
    "crypto.createHash('sha512').update('x'.repeat(300000)).digest();\n"
    "  const kept = []; for (let i = 0; i < 3000; i++) kept.push({text: 'x' + i});\n"
    "  if (stop) { console.log(result); process.exitCode = 9; process.stdin.destroy(); } else "
    "setImmediate(step); }\n"
    "step();\n"
)


def cut_share(profile):
    cut = sum(
        sample.values[0]
        for sample in profile.samples
        if sample.frames[-1].function.startswith("[truncated")
    )
    return cut / profile.total()[0]


def check_node_stacks(profile, named):
    """V8's code keeps frame pointers. named: a map names it."""
    assert cut_share(profile) <= 0.02, cut_share(profile)
    chains = 0
    for sample in profile.samples:
        names = [bare(frame.function) for frame in sample.frames]
        calls = [i for i, name in enumerate(names) if re.search(r"[*~^+]fibonacci ", name)]
        if not named or not calls or names[-1].startswith("[truncated"):
            continue
        # from the innermost fibonacci on there are only others, or calls that are interpreted
        between = [names[i] for i in range(calls[0], calls[-1]) if i not in calls]
        assert all(name.startswith("Builtins_Interpreter") for name in between), names
        assert len(calls) + len(between) <= 26, names
        assert sample.labels["guessed_frames"] > 0
        assert names[-4] == "main" or "node::Start" in names[-4], names
        chains += sample.values[0]
    assert chains > 20 or not named, chains


def test_node():
    node = harness.need("node")
    for options in ([], ["--perf-basic-prof"]):
        directory = harness.scratch()
        argv = [node] + options + ["-e", NODE_SCRIPT]
        expected = harness.run(argv, stdin=b"\n", plain=True, cwd=directory)
        # a sample's copy of the stack lacks what SHA-512 keeps below its stack pointer
        host = harness.Host(argv, cwd=directory, **harness.by_timers())
        assert host.ready() == []
        profile = cpu_profile(host)
        check(profile, [], whole_stacks=0)
        check_node_stacks(profile, named=bool(options))
        host.go_on()
        assert (
            host.line() == expected.stdout.decode().splitlines()[1]
            and host.process.wait(harness.DEADLINE) == expected.returncode == 9
        )
        assert host.stderr().encode() == expected.stderr
        for path in glob.glob("/tmp/perf-%d.map" % host.pid):
            os.unlink(path)


def test_node_profiles_itself_meanwhile():
    """V8's own profiler uses SIGPROF: both get their samples."""
    node = harness.need("node")
    directory = harness.scratch()
    host = harness.Host(
        [node, "--cpu-prof", "--cpu-prof-dir=" + directory, "-e", NODE_SCRIPT], cwd=directory
    )
    assert host.ready() == []
    check(cpu_profile(host), [], whole_stacks=0)
    host.go_on()
    assert (
        host.line() == "46368" and host.process.wait(harness.DEADLINE) == 9 and host.stderr() == ""
    ), host.describe()
    with open(glob.glob(directory + "/*.cpuprofile")[0]) as file:
        theirs = json.load(file)
    assert len(theirs["samples"]) > 500 and any(
        node["callFrame"]["functionName"] == "fibonacci" for node in theirs["nodes"]
    )


JAVA_SOURCE = """
public class Burn {
  static volatile boolean stop;
  static long collatz(long n) { long steps = 0;
    while (n != 1) { n = n % 2 == 0 ? n / 2 : 3 * n + 1; steps++; } return steps; }
  static void work() { long sum = 0; while (!stop) {
    for (int i = 1; i < 5000; i++) sum += collatz(i); String s = "";
    for (int i = 0; i < 300; i++) s += i;
    if (s.length() != 790) throw new Error();
    try { Object o = null; o.hashCode(); } catch (NullPointerException e) { sum++; } } }
  static int depth(int n) { return n + depth(n + 1); }
  public static void main(String[] words) throws Exception {
    Thread[] threads = new Thread[2];
    for (int i = 0; i < 2; i++) { threads[i] = new Thread(Burn::work, "burner-" + i);
      threads[i].start(); }
    System.out.println("ready");
    System.in.read();
    stop = true;
    for (Thread t : threads) t.join();
    try { depth(0); } catch (StackOverflowError e) { System.out.println("overflow caught"); }
    System.gc();
    System.out.println(collatz(27));
    System.exit(11);
  }
}
"""


def test_java():
    """HotSpot handles SIGSEGV in compiled code, has stack guard pages, and no unwind tables for
    what it compiles; its interpreter keeps frame pointers, its compilers only if told to."""
    java, javac = harness.need("java", "javac")
    directory = harness.scratch()
    with open(os.path.join(directory, "Burn.java"), "w") as file:
        file.write(JAVA_SOURCE)
    subprocess.run([javac, "-d", directory, os.path.join(directory, "Burn.java")], check=True)
    for options in ([], ["-Xint"], ["-XX:+PreserveFramePointer"]):
        argv = [java] + options + ["-Xmx256m", "-XX:-UsePerfData", "-cp", directory, "Burn"]
        expected = harness.run(argv, stdin=b"\n", plain=True)
        host = harness.Host(argv)
        assert host.ready(seconds=60) == []
        profile = cpu_profile(host)
        check(profile, [], whole_stacks=0)
        names = collections.Counter()
        for sample in profile.samples:
            names[sample.labels["thread_name"]] += sample.values[0]
        assert names["burner-0"] > 50 and names["burner-1"] > 50, names
        of_a_file = lambda mapping: (
            mapping and mapping.filename.startswith(("/usr", "/lib", "[vdso]"))
        )
        compiled = [sample for sample in profile.samples if not of_a_file(sample.frames[0].mapping)]
        assert len(compiled) > 20, len(compiled)
        for sample in compiled:  # to a thread's start, or cut visibly: nothing in between
            last = sample.frames[-1].function
            assert last.startswith(("[truncated", "clone", "__clone", "_start")), last
        if options:  # else its code uses the frame pointer for something else
            assert cut_share(profile) <= 0.02, (options, cut_share(profile))
        host.go_on()
        assert [host.line(), host.line()] == expected.stdout.decode().splitlines()[
            1:
        ] and host.process.wait(harness.DEADLINE) == 11
        assert host.stderr().encode() == expected.stderr, host.stderr()
