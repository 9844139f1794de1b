"""workloads/exact.c under the agent: a program whose heap is known to the byte."""
import os
import re
import shutil
import subprocess

import harness

SAMPLE_TYPES = ("alloc_objects", "alloc_space", "inuse_objects", "inuse_space")


def start_host():
    host = harness.Host(
        [harness.build("exact.c", "-O1", "-fno-optimize-sibling-calls"), "without-pvalloc"], rate=1
    )
    host.ready()
    return host


def copy_of_workload(stripped):
    path = os.path.join(harness.scratch(), "copied")
    shutil.copy(harness.build("exact.c", "-O1", "-fno-optimize-sibling-calls"), path)
    if stripped:
        subprocess.run([harness.need("strip"), path], check=True)
    return path


def pprof_total(path, sample_type, unit="B"):
    stdout, _ = harness.pprof(
        "-top", "-unit=" + unit, "-nodecount=1000", "-sample_index=" + sample_type, path
    )
    return int(
        re.search(r"Showing nodes accounting for .* of (-?\d+)(?:%s)? total" % unit, stdout).group(
            1
        )
    )
