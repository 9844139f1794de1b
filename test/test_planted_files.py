"""What a stranger puts in the place of a file that names functions is not believed: a build-id is
no secret. Deleted objects, debug files, split ones, perf maps."""
import contextlib
import os
import shutil
import subprocess

import harness
import process_tree
import symbol_driver
import test_perf_maps
import test_split_dwarf
from symbol_driver import build_id, compile_library, driver, parse, run
from test_access import OTHER, OWNER


def given_to(uid, path):
    os.chown(path, uid, uid)
    return path


def forged(path):
    """The same library, build-id included, whose function has another name."""
    copy = path + ".forged"
    with open(path, "rb") as file:
        contents = file.read()
    with open(copy, "wb") as file:
        file.write(contents.replace(b"library_exported", b"forged_by_others"))
    assert build_id(copy) == build_id(path)
    return copy


def name_of_deleted(owner_of_forged, *unprivileged):
    """What the function of a deleted library is called, where a forged one lies in its place."""
    directory = harness.scratch()
    os.chmod(directory, 0o777)
    program = os.path.join(directory, "driver")
    shutil.copy(driver(), program)
    path = compile_library(directory, "-g")
    planted = given_to(owner_of_forged, forged(path))
    done = subprocess.run(
        [
            *unprivileged,
            program,
            "--self",
            "library",
            path,
            "library_exported",
            "replace=" + planted,
        ],
        capture_output=True,
        text=True,
        timeout=harness.DEADLINE,
    )
    assert done.returncode == 0, done
    found, counters = parse(done.stdout)
    return [frames[0][0] for _, frames in found.values()], counters["symbols_files_not_trusted"]


def test_a_deleted_object_is_not_what_lies_in_its_place():
    process_tree.run_as_root()
    as_owner = [
        harness.need("setpriv"),
        "--reuid=%d" % OWNER,
        "--regid=%d" % OWNER,
        "--clear-groups",
        "--bounding-set=-all",
    ]
    # of the owner or root it is taken: it is the same object by its build-id
    assert name_of_deleted(OWNER, *as_owner) == (["forged_by_others"], 0)
    assert name_of_deleted(0, *as_owner) == (["forged_by_others"], 0)
    names, refused = name_of_deleted(OTHER, *as_owner)
    assert names == ["library_exported"] and refused >= 1, (names, refused)
    names, refused = name_of_deleted(OTHER)  # root reads the deleted one through /proc
    assert names == ["library_exported"] and refused >= 1, (names, refused)


def test_a_dlclosed_object_is_not_what_lies_in_its_place():
    process_tree.run_as_root()
    directory = harness.scratch()
    path = compile_library(directory, "-g")
    _, frames, counters = symbol_driver.self_resolve(
        "library",
        path,
        "library_exported",
        "note",
        "close",
        "replace=" + given_to(OTHER, forged(path)),
    )
    assert frames == [[]] and counters["symbols_files_not_trusted"] >= 1, (frames, counters)


def test_debug_files_of_a_stranger():
    process_tree.run_as_root()
    directory = harness.scratch()
    path = compile_library(directory, "-g")
    debug = path + ".debug"
    run(["objcopy", "--only-keep-debug", path, debug])
    run(["strip", "--strip-debug", path])
    run(["objcopy", "--add-gnu-debuglink=" + debug, path])

    def lines():
        _, frames, counters = symbol_driver.self_resolve("library", path, "library_exported")
        return frames[0][0][3] > 0, counters["symbols_files_not_trusted"]

    assert lines() == (True, 0)
    given_to(OTHER, debug)
    has, refused = lines()
    assert not has and refused >= 1
    given_to(OTHER, path)  # who owns the object could have written all this into it
    assert lines() == (True, 0)
    os.chmod(debug, 0o666)
    assert lines()[0] is False
    os.chmod(debug, 0o644)
    given_to(0, debug)
    assert lines() == (True, 0)


def test_a_dwz_file_of_a_stranger():
    """What dwz has moved out of several debug files into one."""
    process_tree.run_as_root()
    dwz, directory = harness.need("dwz"), harness.scratch()
    path = compile_library(directory, "-g", "-gdwarf-4")
    other = compile_library(os.path.join(harness.scratch()), "-g", "-gdwarf-4", "-O1")
    common = os.path.join(directory, "common")
    run([dwz, "-m", common, path, other])
    assert "debugaltlink" in run(["readelf", "-SW", path])

    def looked_up():
        _, frames, counters = symbol_driver.self_resolve("library", path, "library_exported")
        return frames, counters["symbols_files_not_trusted"]

    frames, refused = looked_up()
    assert refused == 0 and frames[0][0][0] == "library_exported" and frames[0][0][3] > 0, frames
    given_to(OTHER, common)
    assert looked_up()[1] >= 1
    given_to(OTHER, path)
    assert looked_up() == (frames, 0)


def test_split_debug_files_of_a_stranger():
    process_tree.run_as_root()
    program, files = test_split_dwarf.split_chain("g++", "-gdwarf-5")
    for path in files:
        given_to(OTHER, path)
    frames, losses = test_split_dwarf.stack_of(program, 100001)
    assert losses["symbols_split_missing"] == 1 and losses["symbols_files_not_trusted"] >= 1, losses
    given_to(OTHER, program)
    test_split_dwarf.check(program, "the program is his as well")


def test_perf_maps_of_a_stranger():
    process_tree.run_as_root()
    with test_perf_maps.started([test_perf_maps.program(), "100000", "0"]) as host:
        path = "/tmp/perf-%d.map" % host.pid
        kept = path + ".kept"
        refused = lambda: host.health()["losses"]["symbols_files_not_trusted"]  # noqa: E731
        names = lambda: test_perf_maps.names(host, 100000)  # noqa: E731
        try:
            assert names() == ["new_name"] and refused() == 0
            given_to(OTHER, path)
            assert names() == [""] and refused() >= 1
            given_to(0, path)
            os.chmod(path, 0o666)
            before = refused()
            assert names() == [""] and refused() > before
            os.chmod(path, 0o644)
            os.link(path, kept)  # as where the kernel lets anybody make hard links
            assert names() == [""]
            os.unlink(path)
            os.symlink(kept, path)
            assert names() == [""]
            os.unlink(path)
            os.rename(kept, path)
            assert names() == ["new_name"]
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(kept)
