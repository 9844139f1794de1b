"""The two unwinders against each other: stacks of real programs at work, taken in the interrupted
thread by the built-in interpreter (what runs in the program) and by libunwind (what the agent's
threads use), frame by frame. SOAK=1: 1,000 stacks of each of eleven
programs."""
import os
import signal
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
#include <algorithm>
#include <iostream>
#include <map>
#include <regex>
#include <string>
#include <vector>
int main() {
  std::map<std::string, std::vector<int>> all;
  std::regex pattern("([a-z]+)([0-9]+)");
  for (int i = 0; i < 100; i++) all["k" + std::to_string(i)].push_back(i);
  for (auto &e : all)
    if (std::regex_match(e.first, pattern)) std::sort(e.second.begin(), e.second.end());
  std::cout << all.size();
}
"""
JQ = '0 | [limit(100000000; repeat("a1b2" | test("[a-z][0-9]")))] | length'
TCL = """\
proc f {n} { if {$n < 2} {return $n}; return [expr {[f [expr {$n-1}]] + [f [expr {$n-2}]]}] }
while 1 { f 20; lsort [split [string repeat {c b a } 200]]; regexp {a+b} [string repeat ab 100] }
"""
NODE = """
function tree(n) { return n ? {l: tree(n - 1), r: tree(n - 1), s: "x" + n} : null; }
for (;;) {
  JSON.parse(JSON.stringify(tree(12)));
  [3, 1, 2].sort();
  "ab1".repeat(500).match(/[a-z]+[0-9]/g);
}
"""
GIT = """git init -q . && cp %s/shim/*/*.c . && git add . &&
git -c user.name=a -c user.email=b commit -qm c &&
while :; do git log -p --stat >/dev/null; git grep -c -E '[a-z]+_t' >/dev/null; done"""


def script(text, *arguments):
    return ["/bin/sh", "-c", text, "sh"] + list(arguments)


def write(directory, name, data):
    path = os.path.join(directory, name)
    with open(path, "wb") as file:
        file.write(data)
    return path


def compiler(directory):
    return script(
        'while :; do g++ -O2 -o /dev/null -c "$1" || exit; done',
        write(directory, "all.cc", CPP.encode()),
    )


def compressor(directory):
    page = bytes((i * i * 31 >> 3) & 255 for i in range(1 << 16))
    return script(
        'while :; do xz -T2 -6 -c "$1" >/dev/null; done', write(directory, "bytes", page * 256)
    )


# The program's name as the kernel has it, and a command that works until it is ended.
PROGRAMS = {
    "python3": lambda directory: ["/usr/bin/python3", "-c", PYTHON],
    "perl": lambda directory: ["perl", "-e", PERL],
    "sqlite3": lambda directory: ["sqlite3", ":memory:", SQL],
    "cc1plus": compiler,
    "node": lambda directory: ["node", "-e", NODE],
    "jq": lambda directory: ["jq", "-n", JQ],
    "tclsh": lambda directory: script(
        'exec tclsh "$1"', write(directory, "work.tcl", TCL.encode())
    ),
    "xz": compressor,
    "openssl": lambda directory: [
        "openssl",
        "speed",
        "-seconds",
        "1",
        "sha256",
        "aes-128-cbc",
        "rsa2048",
        "ecdsap256",
        "sha512",
        "md5",
    ],
    "unwind_except": lambda directory: [
        harness.build("unwind_exceptions.cc", "-O2", name="unwind_except")
    ],
    "git": lambda directory: script(GIT % harness.ROOT),
}
INSTALLED_AS = {"cc1plus": "g++", "unwind_except": "g++"}
SHORT = ("python3", "perl", "cc1plus", "openssl", "unwind_except")


def answers(name, wanted, **variables):
    """What the oracle wrote (test/workloads/unwind_oracle.c)."""
    directory = harness.scratch()
    report = write(directory, "report", b"")
    environment = harness.agent_environment(
        address="off",
        plain=True,
        preload_after=[ORACLE],
        extra=dict(
            variables,
            UNWIND_ORACLE=report,
            UNWIND_ORACLE_COMM=name,
            UNWIND_ORACLE_STACKS=str(wanted),
        ),
    )
    nowhere = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.DEVNULL)
    program = subprocess.Popen(
        PROGRAMS[name](directory), env=environment, cwd=directory, start_new_session=True, **nowhere
    )

    def text():
        with open(report) as file:
            return file.read()

    def enough():
        return sum(not line.startswith("  ") for line in text().splitlines()) >= wanted

    try:
        harness.poll(
            lambda: enough() or program.poll() is not None,
            "%d stacks of %s" % (wanted, name),
            seconds=180,
        )
    finally:
        try:
            os.killpg(program.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        program.wait()
    return text()


def where_cut(text):
    """For each stack that libunwind followed further: the object of the frame that the interpreter
    could not leave."""
    lines, found = text.splitlines(), []
    for number, line in enumerate(lines):
        if line.startswith("further"):
            found.append(lines[number + int(line.split()[1])].split()[1].split("+")[0])
    return found


def check(name, **variables):
    """How many stacks libunwind followed further. The one reason that is known: where a function is
    bound at its first call, the loader's resolver is based on rbx, which the interpreter does not
    follow."""
    text = answers(name, STACKS, **variables)
    lines = [line.split() for line in text.splitlines() if not line.startswith("  ")]
    same = [int(line[1]) for line in lines if line[0] == "same"]
    further = sum(line[0] == "further" for line in lines)
    differs = sum(line[0] == "differs" for line in lines)
    harness.note(
        "%s: %d stacks, %.1f frames; libunwind further in %d"
        % (name, len(lines), sum(same) / max(1, len(same)), further)
    )
    assert len(lines) >= STACKS // 3, text[-2000:]
    assert not differs, "%d of %d differ:\n%s" % (
        differs,
        len(lines),
        text[text.index("differs") :][:6000],
    )
    assert all("/ld-linux" in place for place in where_cut(text)), set(where_cut(text))
    return further


def test_while_the_loader_binds():
    harness.need("tclsh")
    if not os.path.exists(ORACLE):
        raise harness.Skip("the unit tests are not built: make units")
    # nothing is ever bound: each call goes through the resolver
    assert check("tclsh", LD_BIND_NOT="1") > 0


def make_test(name):
    def test():
        harness.need(INSTALLED_AS.get(name, name))
        if not os.path.exists(ORACLE):
            raise harness.Skip("the unit tests are not built: make units")
        check(name)

    test.__name__ = "test_" + name
    return test


for _name in PROGRAMS if os.environ.get("SOAK") else SHORT:
    globals()["test_" + _name] = make_test(_name)
