"""Names that stand in another file than the code: found by debuglink and build-id, dwz's common
file, the packed symbols inside a program (mini debug info)."""
import os
import shutil
import tempfile

import harness
from symbol_driver import build_id, compile_cplusplus, every_address, functions, resolve, run


def split_debug(path):
    """Leaves path without symbols; returns the file that has them."""
    debug = path + ".debug"
    run(["objcopy", "--only-keep-debug", path, debug])
    run(["strip", "--strip-all", path])
    return debug


def test_debug_file_by_debuglink():
    with tempfile.TemporaryDirectory() as directory:
        path = compile_cplusplus(directory, "-O2", "-g")
        addresses = every_address(path, 5)
        expected = resolve(path, addresses)[0]
        debug = split_debug(path)
        run(["objcopy", "--add-gnu-debuglink=" + debug, path])
        assert resolve(path, addresses)[0] == expected
        os.mkdir(os.path.join(directory, ".debug"))
        os.rename(debug, os.path.join(directory, ".debug", os.path.basename(debug)))
        assert resolve(path, addresses)[0] == expected
        # another program's debug file under the right name is refused
        other = compile_cplusplus(
            directory, "-O1", "-g", "-DOTHER", "-Wl,--build-id=0x1234567890", name="other"
        )
        run(
            [
                "objcopy",
                "--only-keep-debug",
                other,
                os.path.join(directory, ".debug", os.path.basename(debug)),
            ]
        )
        assert all(
            len(frames) == 0 or frames[0][3] == 0
            for _, frames in resolve(path, addresses)[0].values()
        )


def test_debug_file_by_debuglink_checksum_without_build_id():
    with tempfile.TemporaryDirectory() as directory:
        path = compile_cplusplus(directory, "-O2", "-g", "-Wl,--build-id=none")
        addresses = every_address(path, 5)
        expected = resolve(path, addresses)[0]
        debug = split_debug(path)
        run(["objcopy", "--add-gnu-debuglink=" + debug, path])
        assert resolve(path, addresses)[0] == expected
        with open(debug, "ab") as file:
            file.write(b"changed")
        assert all(
            not frames or frames[0][3] == 0 for _, frames in resolve(path, addresses)[0].values()
        )


def test_debug_file_by_build_id():
    with tempfile.TemporaryDirectory() as directory:
        path = compile_cplusplus(directory, "-O2", "-g")
        addresses = every_address(path, 5)
        expected = resolve(path, addresses)[0]
        debug, identity = split_debug(path), build_id(path)
        place = "/usr/lib/debug/.build-id/%s/%s.debug" % (identity[:2], identity[2:])
        made = not os.path.isdir(os.path.dirname(place))
        try:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            shutil.copy(debug, place)
        except PermissionError:
            raise harness.Skip("/usr/lib/debug cannot be written")
        try:
            assert resolve(path, addresses)[0] == expected
        finally:
            os.unlink(place)
            if made:
                os.rmdir(os.path.dirname(place))
        assert resolve(path, addresses)[0] != expected


def test_dwz_alternate_file():
    dwz = harness.need("dwz")
    with tempfile.TemporaryDirectory() as directory:
        first = compile_cplusplus(directory, "-O2", "-g", "-gdwarf-4", name="first")
        second = compile_cplusplus(directory, "-O1", "-g", "-gdwarf-4", name="second")
        addresses = every_address(first, 5)
        expected = resolve(first, addresses)[0]
        run([dwz, "-m", os.path.join(directory, "common"), first, second])
        assert "debugaltlink" in run(["readelf", "-SW", first])
        assert resolve(first, addresses)[0] == expected


def test_mini_debug_info():
    harness.need("xz")
    for threads in ("-T1", "-T2"):  # the latter's blocks have larger headers
        check_mini_debug_info(threads)


def check_mini_debug_info(threads):
    with tempfile.TemporaryDirectory() as directory:
        path = compile_cplusplus(directory, "-O2")
        names = functions(path)
        mini = path + ".mini"
        run(["objcopy", "-S", "--keep-symbol=main", path, mini + "0"])
        run(["objcopy", "--only-keep-debug", path, mini])
        run(
            ["objcopy", "-S", "--remove-section", ".comment"]
            + ["--keep-symbol=" + name for name in names]
            + [mini, mini + "1"]
        )
        run(["xz", threads, "-k", mini + "1"])
        run(["strip", "--strip-all", path])
        run(["objcopy", "--add-section", ".gnu_debugdata=%s1.xz" % mini, path])
        start, size = names.get("_ZN4deep12_GLOBAL__N_16hiddenEi") or names["c_function"]
        found, counters = resolve(path, [start, start + size - 1, start + size])
        assert found[start][1][0][0] in (
            "deep::(anonymous namespace)::hidden(int)",
            "c_function",
        ), found
        assert found[start][0] == start and found[start + size - 1][0] == start
        assert counters["symbols_files_malformed"] == 0
