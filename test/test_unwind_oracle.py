"""The two unwinders against each other: stacks of real programs at work, taken in the interrupted
thread by the built-in interpreter (what runs in the program) and by libunwind (what the agent's
threads use), frame by frame. SOAK=1: 10,000 stacks of ten programs."""
import os
import subprocess

import harness

ORACLE = os.path.join(harness.BUILD, "test", "unwind_oracle.so")
STACKS = 1000 if os.environ.get("SOAK") else 150

PYTHON = """
import json, re, zlib
rows = [{"a": i, "b": str(i) * 5} for i in range(2000)]
while True:
    json.loads(json.dumps(rows))
    re.findall("1+2", str(rows))
    zlib.compress(str(rows).encode())
    sorted(rows, key=lambda row: row["b"])
"""
PERL = r"""
my %seen; my $text = join(",", map { $_ * 7919 } 1 .. 20000);
while (1) { $seen{$_}++ for split /,/, $text; (my $t = $text) =~ s/(\d)(\d)/$2$1/g;
  my @s = sort { $seen{$a} <=> $seen{$b} || $a cmp $b } keys %seen; }
"""
SQL = """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000000)
SELECT count(DISTINCT i % 1000), group_concat(substr(printf('%d', i), 1, 2)) FROM
(SELECT i FROM n ORDER BY random()) GROUP BY i % 7;
"""
CPP = """
#include <map>
#include <regex>
#include <string>
#include <vector>
#include <algorithm>
#include <iostream>
int main() {
  std::map<std::string, std::vector<int>> all;
  std::regex pattern("([a-z]+)([0-9]+)");
  for (int i = 0; i < 100; i++) all["k" + std::to_string(i)].push_back(i);
  for (auto &e : all) if (std::regex_match(e.first, pattern)) std::sort(e.second.begin(), e.second.end());
  std::cout << all.size();
}
"""
WORKING_CPP = r"""
#include <map>
#include <regex>
#include <stdexcept>
#include <string>
static int deep(int n) { std::string s(n, 'x'); if (n == 0) throw std::runtime_error(s); return deep(n - 1) + (int)s.size(); }
int main() {
  std::map<std::string, int> counts;
  std::regex pattern("([a-z]+)([0-9]+)");
  for (int i = 0;; i++) {
    std::string key = "k" + std::to_string(i % 1000);
    counts[key] += std::regex_match(key, pattern);
    try { deep(i % 40); } catch (const std::exception &) { counts["caught"]++; }
  }
}
"""
JQ = "def f: if . > 20000000 then . else . + 1 | f end; 0 | [limit(100000000; repeat(\"a1b2\" | test(\"[a-z][0-9]\")))] | length"
TCL = "proc f {n} { if {$n < 2} {return $n}; return [expr {[f [expr {$n-1}]] + [f [expr {$n-2}]]}] }; while 1 { f 20; lsort [split [string repeat {c b a } 200]]; regexp {a+b} [string repeat ab 100] }"
NODE = """
function tree(n) { return n ? {l: tree(n - 1), r: tree(n - 1), s: "x" + n} : null; }
for (;;) { JSON.parse(JSON.stringify(tree(12))); [3, 1, 2].sort(); "ab1".repeat(500).match(/[a-z]+[0-9]/g); }
"""


def compiler(directory, *flags):
    source = os.path.join(directory, "all.cc")
    with open(source, "w") as file:
        file.write(CPP)
    return ["/bin/sh", "-c", "while :; do g++ %s -o /dev/null -c %s || exit; done" % (" ".join(flags), source)]


def random_file(directory, size):
    path = os.path.join(directory, "bytes")
    with open(path, "wb") as file:
        file.write(bytes((i * i * 31 >> 3) & 255 for i in range(1 << 16)) * (size >> 16))
    return path


def working_cpp(_):
    path = os.path.join(harness.scratch(), "working.cc")
    with open(path, "w") as file:
        file.write(WORKING_CPP)
    return [harness.build(path, "-O2", name="unwind_oracle_cpp")]


def sqlite(_):
    return ["sqlite3", ":memory:", SQL]


# The program's name as the kernel has it, and a command that works until it is ended.
PROGRAMS = {
    "python3": lambda d: ["/usr/bin/python3", "-c", PYTHON],
    "perl": lambda d: ["perl", "-e", PERL],
    "sqlite3": sqlite,
    "cc1plus": lambda d: compiler(d, "-O2"),
    "node": lambda d: ["node", "-e", NODE],
    "jq": lambda d: ["jq", "-n", JQ],
    "tclsh": lambda d: ["/bin/sh", "-c", 'echo "$1" | exec tclsh', "sh", TCL],
    "xz": lambda d: ["/bin/sh", "-c", "while :; do xz -T2 -6 -c %s >/dev/null; done" % random_file(d, 16 << 20)],
    "openssl": lambda d: ["openssl", "speed", "-seconds", "1", "sha256", "aes-128-cbc", "rsa2048",
                          "ecdsap256", "sha512", "md5"],
    "unwind_oracle_c": working_cpp,
    "git": lambda d: ["/bin/sh", "-c", "cd %s && while :; do git log -p --stat >/dev/null; git grep -c -E '[a-z]+_t' >/dev/null; done"
                      % harness.ROOT],
}
SHORT = ("python3", "perl", "cc1plus", "openssl", "unwind_oracle_c")


def stacks_of(name, wanted):
    """{answer: count} and the differences, in words."""
    directory = harness.scratch()
    report = os.path.join(directory, "report")
    open(report, "w").close()
    command = PROGRAMS[name](directory)
    environment = harness.agent_environment(address="off", plain=True, preload_after=[ORACLE], extra={
        "UNWIND_ORACLE": report, "UNWIND_ORACLE_COMM": name, "UNWIND_ORACLE_STACKS": str(wanted)})
    program = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               env=environment, start_new_session=True, cwd=directory)

    def enough():
        with open(report) as file:
            return sum(line.startswith(("same", "further", "differs")) for line in file) >= wanted

    try:
        harness.poll(lambda: enough() or program.poll() is not None, "%d stacks of %s" % (wanted, name), seconds=90)
    finally:
        try:
            os.killpg(program.pid, 9)
        except ProcessLookupError:
            pass
        program.wait()
    with open(report) as file:
        return file.read()


def check(name):
    wanted = STACKS
    text = stacks_of(name, wanted)
    lines = [line.split() for line in text.splitlines() if not line.startswith("  ")]
    same = [int(line[1]) for line in lines if line[0] == "same"]
    further = [int(line[2]) for line in lines if line[0] == "further"]
    differs = sum(line[0] == "differs" for line in lines)
    harness.note("%s: %d stacks, %.1f frames, %d further by libunwind (%.1f frames)" % (
        name, len(lines), sum(same) / max(1, len(same)), len(further), sum(further) / max(1, len(further))))
    assert len(lines) >= wanted // 3, text[-2000:]
    assert not differs, "%d of %d differ:\n%s" % (differs, len(lines), text[text.index("differs"):][:6000])


def make_test(name):
    def test():
        harness.need(name if name not in ("unwind_oracle_c", "cc1plus") else "g++")
        if not os.path.exists(ORACLE):
            raise harness.Skip("the unit tests are not built: make units")
        check(name)
    test.__name__ = "test_" + name
    return test


for _name in PROGRAMS if os.environ.get("SOAK") else SHORT:
    globals()["test_" + _name] = make_test(_name)
