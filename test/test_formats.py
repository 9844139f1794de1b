"""?format=json, top and collapsed of every profile: what `go tool pprof` makes of the same."""
import collections
import json
import re

import harness

HEAP_TYPES = ["alloc_objects", "alloc_space", "inuse_objects", "inuse_space"]
PROFILES = ("heap", "allocs", "block", "mutex", "goroutine", "threadcreate")
UNITS = {
    "bytes": {"B": 1, "kB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30},
    "nanoseconds": {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9, "mins": 6e10, "hrs": 3.6e12},
    "count": {},
}


def exact_host():
    host = harness.Host([harness.build("exact.c", "-O1", "-fno-optimize-sibling-calls")], rate=1)
    truths = {}
    for line in host.ready():
        word = line.split()
        if word and word[0] == "truth":
            truths[word[1]] = [int(number) for number in word[2:6]]
    return host, truths


def tree(host, query):
    return json.loads(host.text(query))


def by_name(answer):
    """{function: [flat of each sample type, cum of each]}; those of one name are one, as in
    pprof."""
    out = collections.defaultdict(lambda: [[0] * len(answer["sample_types"]) for _ in range(2)])
    for function in answer["functions"]:
        for at, key in enumerate(("flat", "cum")):
            for v, value in enumerate(function[key]):
                out[function["name"]][at][v] += value
    return out


def check_sums(answer):
    """Each node is its own, its children and what was cut below it; the root is everything."""
    nodes, types = answer["nodes"], range(len(answer["sample_types"]))
    rest = [
        [node["cum"][v] - node["flat"][v] - node.get("cut", [0] * 4)[v] for v in types]
        for node in nodes
    ]
    assert nodes[0]["parent"] is None and nodes[0]["cum"] == answer["total"]
    for number, node in enumerate(nodes[1:], 1):
        assert node["parent"] < number and 0 <= node["function"] < len(answer["functions"])
        for v in types:
            rest[node["parent"]][v] -= node["cum"][v]
    assert not any(any(values) for values in rest), rest
    cut = [sum(node.get("cut", [0] * 4)[v] for node in nodes) for v in types]
    assert cut == answer["cut"]["values"]
    assert [sum(node["flat"][v] for node in nodes) + cut[v] for v in types] == answer["total"]


def pprof_top(path, sample_type, unit):
    """{function: (flat, cum)} of the real pprof, exact."""
    out = {}
    text, _ = harness.pprof(
        "-top",
        "-symbolize=none",
        "-nodefraction=0",
        "-sample_index=" + sample_type,
        "-unit=" + unit,
        path,
    )
    for line in text.split("cum%\n", 1)[1].splitlines():
        flat, _, _, cum, _, name = line.split(None, 5)
        out[name.replace(" (inline)", "")] = tuple(
            int(re.sub(r"[a-zA-Z]", "", each)) for each in (flat, cum)
        )
    return out


def saved(host, query):
    path = host.directory + "/profile.pb.gz"
    status, _, body = host.get(query)
    assert status == 200
    with open(path, "wb") as file:
        file.write(body)
    return path


def test_json_is_what_the_workload_did_and_what_pprof_shows():
    host, truths = exact_host()
    answer, path = tree(host, "heap?format=json"), saved(host, "heap")
    check_sums(answer)
    assert [each["type"] for each in answer["sample_types"]] == HEAP_TYPES
    assert answer["default_sample_type"] == "inuse_space" and answer["process"]["pid"] == host.pid
    assert answer["cut"]["one_in"] == 0 and answer["cut"]["nodes"] == 0 and len(truths) > 10
    functions = by_name(answer)
    for name in ("by_malloc", "by_calloc", "by_realloc_grow", "by_large_malloc"):
        assert functions[name][0] == truths[name], name
    for v, kind in enumerate(answer["sample_types"]):
        seen = {
            name: (flat[v], cum[v]) for name, (flat, cum) in functions.items() if flat[v] or cum[v]
        }
        unit = "B" if kind["unit"] == "bytes" else "count"
        assert seen == pprof_top(path, kind["type"], unit), kind
    assert host.finish() == 0


def test_top_and_collapsed_are_those_of_pprof():
    host, _ = exact_host()
    path = saved(host, "allocs")
    want = pprof_top(path, "alloc_space", "B")
    text = host.text("allocs?format=top")
    rows = [line.split(None, 5) for line in text.split("cum%\n", 1)[1].splitlines()]
    assert "Type: alloc_space" in text and {row[5] for row in rows} == set(want)
    for flat, _, _, cum, _, name in rows:
        for shown, exact in zip((flat, cum), want[name]):
            amount, label = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", shown).groups()
            factor = UNITS["bytes"][label] if label else 1
            assert abs(float(amount) * factor - exact) <= factor * 0.00501, (name, shown, exact)
    by_size = sorted((flat for flat, _ in want.values()), reverse=True)
    assert [want[row[5]][0] for row in rows] == by_size
    assert len(host.text("allocs?format=top&nodecount=3").split("cum%\n", 1)[1].splitlines()) == 3
    stacks = collections.Counter()
    for line in host.text("allocs?format=collapsed&sample_index=alloc_objects").splitlines():
        stack, value = line.rsplit(" ", 1)
        stacks[stack] += int(value)
    traces, _ = harness.pprof("-traces", "-symbolize=none", "-sample_index=alloc_objects", path)
    assert stacks == collapsed_traces(traces)
    assert host.finish() == 0


def collapsed_traces(text):
    """`pprof -traces` as collapsed stacks."""
    out = collections.Counter()
    for block in re.split(r"-+\+-+\n", text)[1:]:
        lines = [line for line in block.splitlines() if not re.match(r"\s*bytes:", line)]
        if lines:
            value, leaf = lines[0].split(None, 1)
            names = [re.sub(r" \(inline\)$", "", name.strip()) for name in [leaf] + lines[1:]]
            out[";".join(reversed(names))] += int(value)
    return +out


def test_every_profile_has_every_form():
    program = harness.build("contention_counts.c", "-O1", "-fno-optimize-sibling-calls")
    host = harness.Host(
        [program],
        rate=1,
        extra={"PPROFAGENT_BLOCKPROFILERATE": "1", "PPROFAGENT_MUTEXPROFILEFRACTION": "1"},
    )
    host.ready()
    for name in PROFILES:
        answer = tree(host, name + "?format=json")
        check_sums(answer)
        assert answer["profile"] == name and sum(map(abs, answer["total"])) > 0, name
        functions = by_name(answer)
        sums = [sum(flat[v] for flat, _ in functions.values()) for v in range(len(answer["total"]))]
        assert sums == answer["total"]
        assert host.text(name + "?format=top").count("\n") > 5, name
        assert host.text(name + "?format=collapsed"), name
        below = "/pid/%d/debug/pprof/%s?format=json" % (host.pid, name)
        assert json.loads(host.get(below)[2])["profile"] == name
    names = by_name(tree(host, "block?format=json"))
    assert names["wait_often"][1][0] == 7 and names["wait_seldom"][1][0] == 3
    names = by_name(tree(host, "mutex?format=json"))
    assert names["release_often"][1][0] == 7 and names["release_seldom"][1][0] == 3
    waits = host.health()["lock_waits"]  # the sums of both
    for name in ("block", "mutex"):
        count, delay = tree(host, name + "?format=json")["total"]
        assert waits[name]["contentions"] == count >= 10
        assert abs(waits[name]["delay_seconds"] - delay / 1e9) < 0.002
    assert host.finish() == 0


def test_seconds_and_cpu():
    program = harness.build("cpu_shares.c", "-O1", "-fno-optimize-sibling-calls")
    host = harness.Host([program, "spin"])
    host.ready()
    answer = tree(host, "profile?seconds=1&format=json")
    check_sums(answer)
    assert [each["type"] for each in answer["sample_types"]] == ["samples", "cpu"]
    assert answer["duration_nanos"] > 0
    assert by_name(answer)["spin"][0] == answer["total"] and answer["total"][1] > 0
    stack, value = host.text("profile?seconds=1&format=collapsed").splitlines()[0].rsplit(" ", 1)
    assert stack.endswith(";run_spin;spin") and int(value) > 0
    for name in PROFILES:
        answer = tree(host, name + "?seconds=1&format=json")
        check_sums(answer)
        assert answer["duration_nanos"] > 0
    host.kill()


def test_what_is_cut_is_said():
    host, _ = exact_host()
    whole = tree(host, "heap?format=json&nodecount=0")
    for count in (1, 5, 10, 20):
        answer = tree(host, "heap?format=json&nodecount=%d" % count)
        check_sums(answer)
        assert len(answer["nodes"]) + answer["cut"]["nodes"] == len(whole["nodes"])
        assert len(answer["nodes"]) <= count + 1 or count == 1
        assert answer["cut"]["one_in"] >= 2 and answer["total"] == whole["total"]
        for node in answer["nodes"]:
            share = max(value / total for value, total in zip(node["cum"], answer["total"]))
            assert share >= 1 / answer["cut"]["one_in"]
    assert host.finish() == 0


def test_refusals():
    host, _ = exact_host()
    for query, words in (
        ("heap?format=xml", "must be json, top or collapsed"),
        ("heap?format=json&debug=1", "incompatible"),
        ("heap?format=top&sample_index=cpu", "inuse_space"),
        ("heap?format=" + "x" * 200, "must be json"),
        ("profile?format=xml&seconds=1", "must be json"),
        ("heap?format=json&seconds=x", "positive integer"),
    ):
        status, headers, body = host.get(query)
        assert status == 400 and words in body.decode(), (query, status, body)
    # before anything is recorded: an hour's profile is refused at once, with the types that it has
    for name in PROFILES + ("allocs", "thread", "profile", "wall"):
        query = name + ("?seconds=1" if name in ("profile", "wall") else "?")
        types = [each["type"] for each in tree(host, query + "&format=json")["sample_types"]]
        want = 'invalid value for "sample_index" - the profile has %s\n' % " ".join(types)
        for wrong in ("x", "al", types[0] + "+" + types[-1], types[0] + "x", "x" * 500):
            status, _, body = host.get(name + "?seconds=3600&format=top&sample_index=" + wrong)
            assert (status, body.decode()) == (400, want), (name, wrong)
        for right in types if name in PROFILES else ():
            assert "Type: %s\n" % right in host.text(query + "&format=top&sample_index=" + right)
    assert host.health()["cpu_sampling"]["profiles_running"] == 0
    status, headers, body = host.get("heap?format=json", method="HEAD")
    assert status == 200 and headers["Content-Type"] == "application/json" and not body
    assert host.finish() == 0
