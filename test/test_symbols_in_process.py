"""Names in a living process: its own program, the vdso, libraries that are closed, deleted or
replaced, JIT code; and what odd files cost."""
import os
import shutil
import subprocess
import tempfile

import harness
from symbol_driver import build_id, compile_library, driver, parse, self_resolve


def test_own_program_and_main_mapping():
    maps, frames, _ = self_resolve("main")
    assert maps[0][0] == maps[0][5] == os.path.realpath(driver()) and maps[0][4] == build_id(
        driver()
    ), maps
    assert (
        frames[0][0][0] == "own_function"
        and frames[0][0][2].endswith("symbols_driver.c")
        and frames[0][0][3] > 0
    ), frames


def test_unlinked_program_is_read_through_proc():
    with tempfile.TemporaryDirectory() as directory:
        copy = os.path.join(directory, "program")
        shutil.copy(driver(), copy)
        maps, frames, _ = self_resolve("main", copy, program=copy)
        assert maps[0][0] == copy and maps[0][2] == "1", maps
        assert frames[0][0][0] == "own_function" and frames[0][0][3] > 0, frames


def test_vdso():
    maps, frames, _ = self_resolve("vdso")
    assert maps[0][0] == "[vdso]" and maps[0][1] == "1", maps
    assert frames[0][0][0] in ("__vdso_clock_gettime", "clock_gettime"), frames


def test_dlopened_library():
    with tempfile.TemporaryDirectory() as directory:
        path = compile_library(directory, "-g")
        maps, frames, _ = self_resolve("library", path, "library_exported")
        assert maps[0][0] == path and maps[0][4] == build_id(path)
        assert (
            frames[0][0][0] == "library_exported"
            and frames[0][0][2].endswith("symbols_library.c")
            and frames[0][0][3] > 0
        )


def test_dlclosed_library_keeps_its_names():
    with tempfile.TemporaryDirectory() as directory:
        path = compile_library(directory, "-g")
        maps, frames, _ = self_resolve("library", path, "library_exported", "note", "close")
        assert maps[0][0] == path and maps[0][3] == "1", maps
        assert frames[0][0][0] == "library_exported" and frames[0][0][3] > 0


def test_dlclosed_and_replaced_library_has_no_names():
    with tempfile.TemporaryDirectory() as directory:
        path = compile_library(directory, "-g")
        other = compile_library(directory, "-g", "-DVERSION=2", name="other.so")
        _, frames, counters = self_resolve(
            "library", path, "library_exported", "note", "close", "replace=" + other
        )
        assert frames == [[]] and counters["symbols_files_missing"] == 1, frames


def test_deleted_library():
    with tempfile.TemporaryDirectory() as directory:
        path = compile_library(directory, "-g")
        maps, frames, _ = self_resolve("library", path, "library_exported", "unlink")
        assert maps[0][0] == path and maps[0][2] == "1", maps
        # by /proc/self/map_files where allowed, else by the symbols in memory
        assert frames[0][0][0] == "library_exported", frames


def test_replaced_library_is_not_named_by_the_new_file():
    with tempfile.TemporaryDirectory() as directory:
        path = compile_library(directory, "-g")
        other = compile_library(directory, "-g", "-DVERSION=2", name="other.so")
        maps, frames, _ = self_resolve("library", path, "library_exported", "replace=" + other)
        assert maps[0][2] == "1" and frames[0][0][0] == "library_exported", (maps, frames)


def test_replaced_library_without_privilege_is_named_from_memory():
    setpriv = harness.need("setpriv")
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o777)
        path = compile_library(directory, "-g")
        other = compile_library(directory, "-g", "-DVERSION=2", name="other.so")
        program = os.path.join(directory, "driver")
        shutil.copy(driver(), program)
        done = subprocess.run(
            [
                setpriv,
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                program,
                "--self",
                "library",
                path,
                "library_exported",
                "replace=" + other,
            ],
            capture_output=True,
            text=True,
            timeout=harness.DEADLINE,
        )
        if "setpriv" in done.stderr:
            raise harness.Skip(done.stderr)
        found, counters = parse(done.stdout)
        assert [frames for _, frames in found.values()] == [
            [("library_exported", "library_exported", "?", 0)]
        ], done.stdout
        assert counters["symbols_files_missing"] == 1


def test_jit_code_by_perf_map():
    lines = [
        "200000000000 20 first function(int)\n",
        "nonsense\n",
        "20000000zz 1 x\n",
        "200000000020 0 empty\n",
        "200000000100 10\n",
        "0x200000000040 0x10 with prefix\n",
        "200000000000 10 rewritten\n",
        "200000000060 10 unfinished line",
    ]
    _, frames, _ = self_resolve(
        "jit", "0", "18", "20", "45", "60", "100", text_input="".join(lines)
    )
    assert [frame[0][0] if frame else None for frame in frames] == [
        "rewritten",
        None,
        None,
        "with prefix",
        None,
        None,
    ], frames
