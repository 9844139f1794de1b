"""The encoders' fixtures, tables built by hand so that the right answer is known, given to the
real pprof."""
import os
import re
import subprocess

import harness
from pprof_reader import Profile
from wire_hosts import SAMPLE_TYPES, pprof_total, start_host


def fixtures():
    """The directory into which unit_profile_proto wrote its profiles."""
    program = os.path.join(harness.BUILD, "test", "unit_profile_proto")
    if not os.path.exists(program):
        raise harness.Skip("unit_profile_proto is not built")
    directory = harness.scratch()
    subprocess.run([program, directory], check=True)
    return lambda name: os.path.join(directory, name)


def test_fixture_is_read_by_an_independent_reader():
    path = fixtures()
    profile = Profile(open(path("exact.pb.gz"), "rb").read())
    assert profile.sample_types == [
        ("alloc_objects", "count"),
        ("alloc_space", "bytes"),
        ("inuse_objects", "count"),
        ("inuse_space", "bytes"),
    ]
    assert profile.period_type == ("space", "bytes") and profile.period == 1
    assert profile.total() == [36, 5279396, 20, 3149108]
    assert profile.by_leaf()["foo_alloc"] == [5, 5242880, 3, 3145728]
    stacks = {tuple(frame.function for frame in sample.frames) for sample in profile.samples}
    assert ("ns::make<int>(int)", "inner", "outer", "main") in stacks
    assert ("", "main", "[truncated: no unwind information]") in stacks
    assert sorted(sample.labels["bytes"] for sample in profile.samples) == [
        24,
        48,
        64,
        100,
        512,
        512,
        4096,
        1048576,
    ]


def test_fixture_text_and_proto_agree_under_pprof():
    path = fixtures()
    for name in ("default", "exact", "mixed", "unfreed"):
        records = len(Profile(open(path(name + ".pb.gz"), "rb").read()).samples)
        for sample_type in SAMPLE_TYPES:
            proto, text = (
                pprof_total(path(name + extension), sample_type) for extension in (".pb.gz", ".txt")
            )
            # pprof cuts each scaled record of a text down to an integer, the agent rounds to the
            # nearest
            slack = 0 if name in ("exact", "mixed") else records
            assert abs(proto - text) <= slack, "%s %s: proto %d, text %d" % (
                name,
                sample_type,
                proto,
                text,
            )


def test_fixture_contention_text_and_proto_agree_under_pprof():
    path = fixtures()
    for name, contentions, delay in (
        ("block", 5, 128457789),
        ("mutex", 1000003, (1 << 52) + 7001),
        ("block-empty", 0, 0),
        ("mutex-empty", 0, 0),
    ):
        for extension in (".pb.gz", ".txt"):
            got = [
                pprof_total(path(name + extension), sample_type, "ns")
                for sample_type in ("contentions", "delay")
            ]
            assert got == [contentions, delay], "%s%s: %s" % (name, extension, got)
    profile = Profile(open(path("mutex.pb.gz"), "rb").read())
    assert profile.sample_types == [
        ("contentions", "count"),
        ("delay", "nanoseconds"),
    ], profile.sample_types
    assert (
        profile.period_type == ("contentions", "count")
        and profile.period == 1
        and profile.duration_nanos == 0
    )
    assert profile.total() == [1000003, (1 << 52) + 7001] and profile.by_leaf()[
        "ns::make<int>"
    ] == [3, 7000], dict(profile.by_leaf())
    assert (
        "4 waits whose releasers were not looked for"
        in harness.pprof("-top", path("mutex.pb.gz"))[0]
    )


def test_fixture_delta_is_the_difference():
    path = fixtures()
    difference = harness.pprof(
        "-top", "-unit=B", "-diff_base", path("default.pb.gz"), path("later.pb.gz")
    )[0]
    delta = harness.pprof("-top", "-unit=B", path("delta.pb.gz"))[0]
    rows = [
        {
            line.split()[5]: line.split()[0]
            for line in text.splitlines()
            if re.match(r" *-?\d+B? ", line)
        }
        for text in (difference, delta)
    ]
    assert (
        rows[0] == rows[1]
        and rows[0]["foo_alloc"] == "3638090B"
        and rows[0]["ns::make<int>(int)"] == "-3145920B"
    ), rows


def test_fixture_empty_profiles_are_valid():
    path = fixtures()
    for name in ("empty.pb.gz", "empty.txt"):
        assert "0 total" in harness.pprof_clean("-top", path(name))


def test_complete_names_need_no_file():
    stdout = harness.pprof_clean(
        "-traces", fixtures()("unfreed.pb.gz")
    )  # its object files do not exist
    assert "ns::make<int>(int)" in stdout and "foo_alloc" in stdout


TABWRITER = """package main
import ("bufio"; "fmt"; "os"; "text/tabwriter")
func main() {
	out := tabwriter.NewWriter(os.Stdout, 1, 8, 1, '\\t', 0)
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 1<<24)
	for in.Scan() { fmt.Fprintln(out, in.Text()) }
	out.Flush()
}
"""


def check_padding(text):
    """Takes the padding out of the frame lines and lets Go's own tabwriter put it in again."""
    program = os.path.join(harness.scratch(), "pad.go")
    with open(program, "w") as file:
        file.write(TABWRITER)
    head = b"".join(
        re.findall(
            rb"(?ms)^(?:\w+ profile:|--- (?!Memory)\w+:).*?(?=^# runtime.MemStats|^--- Memory map)",
            text,
        )
    )
    head = head.replace(b"\xff", b"?")  # which Go's tabwriter takes for the beginning of an escape
    bare = re.sub(rb"\t+", b"\t", head)
    padded = subprocess.run(
        [harness.need("go"), "run", program],
        input=bare,
        capture_output=True,
        timeout=harness.DEADLINE * 2,
        env=dict(os.environ, GOFLAGS="-mod=mod", GOCACHE=harness.scratch(), GO111MODULE="off"),
    )
    assert padded.returncode == 0, padded.stderr
    for ours, go in zip(head.split(b"\n"), padded.stdout.split(b"\n")):
        assert ours == go, "%r, Go pads %r" % (ours, go)


def test_text_is_padded_like_gos():
    path = fixtures()
    host = start_host()
    texts = [
        host.text(name + "?debug=1").encode() for name in ("heap", "goroutine", "threadcreate")
    ]
    fixed = [open(path(name + ".txt"), "rb").read() for name in ("default", "block")]
    check_padding(b"".join(fixed + texts))
