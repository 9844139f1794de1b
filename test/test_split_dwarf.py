"""Split debug information: .dwo files and .dwp packages, found, checked by their dwo_id, missed."""
import glob
import os
import shutil

import harness
from test_dwarf_forms import (
    CHAIN,
    INLINED,
    LINES,
    SOURCES,
    compile_chain,
    difference,
    last_name,
    run,
    stack_of,
)

COMPILERS = ("g++", "clang++")
VERSIONS = ("-gdwarf-5", "-gdwarf-4")


def split_chain(compiler, *flags):
    program = compile_chain(harness.scratch(), compiler, "-g", "-gsplit-dwarf", *flags)
    files = glob.glob(os.path.join(os.path.dirname(program), "*.dwo"))
    assert len(files) == len(SOURCES), files
    return program, files


def check(program, what):
    wrong = difference(*stack_of(program, 100001))
    assert wrong is None, "%s: %s" % (what, wrong)


def check_without(program, what):
    """Functions are the symbol table's, lines the skeleton's; what is inlined is lost, and told."""
    frames, losses = stack_of(program, 100001)
    own = [name for name in CHAIN if name not in INLINED]
    assert [last_name(function) for function, _, _ in frames[: len(own)]] == own, (what, frames)
    leaf_most = {"entry": "inner", "caller": "operator()"}  # the line of the innermost call
    for frame, name in zip(frames, own):
        assert frame[1:] == LINES[leaf_most.get(name, name)], (what, frame)
    assert losses == {"symbols_split_missing": 1}, (what, losses)


def test_dwo_files_where_the_compiler_put_them():
    for compiler in COMPILERS:
        for version in VERSIONS:
            for more in ([], ["-ffunction-sections"], ["-gdwarf64"], ["-fdebug-types-section"]):
                program, _ = split_chain(compiler, version, *more)
                check(program, (compiler, version, more))


def test_dwo_files_that_moved_with_the_program():
    for compiler in COMPILERS:
        program, files = split_chain(compiler, "-gdwarf-5")
        moved = harness.scratch()
        for path in files + [program]:
            shutil.move(path, moved)
        check(os.path.join(moved, "chain"), compiler)


def test_dwo_in_the_object_file():
    program = compile_chain(harness.scratch(), "clang++", "-g", "-gsplit-dwarf=single")
    check(program, "single")


def test_packages():
    # binutils' tool crashes on DWARF 5
    for tool, versions in (("dwp", ["-gdwarf-4"]), ("llvm-dwp", VERSIONS)):
        for compiler in COMPILERS:
            for version in versions:
                program, files = split_chain(compiler, version, "-ffunction-sections")
                run(
                    [harness.need(tool), "-e", program, "-o", program + ".dwp"],
                    os.path.dirname(program),
                )
                for path in files:
                    os.unlink(path)
                check(program, (tool, compiler, version))


def test_compressed_dwo_files_and_packages():
    program, files = split_chain("g++", "-gdwarf-5")
    package = os.path.join(harness.scratch(), "package")
    run([harness.need("llvm-dwp"), "-e", program, "-o", package], os.path.dirname(program))
    for kind in ("zlib", "zstd"):
        for path in files:
            run(["objcopy", "--compress-debug-sections=" + kind, path], "/")
        check(program, kind)
    run(["objcopy", "--compress-debug-sections=zstd", package, program + ".dwp"], "/")
    for path in files:
        os.unlink(path)
    check(program, "package")


def test_skeletons_in_a_separate_debug_file():
    program, files = split_chain("g++", "-gdwarf-5")
    run(["objcopy", "--only-keep-debug", program, program + ".debug"], "/")
    run(["strip", "--strip-all", program], "/")
    run(["objcopy", "--add-gnu-debuglink=" + program + ".debug", program], "/")
    check(program, "debug file")
    run([harness.need("llvm-dwp"), "-o", program + ".debug.dwp"] + files, os.path.dirname(program))
    for path in files:
        os.unlink(path)
    check(program, "its package")


def test_missing_dwo_files():
    for compiler in COMPILERS:
        for version in VERSIONS:
            without = ["-fno-split-dwarf-inlining"] if compiler == "clang++" else []
            program, files = split_chain(compiler, version, *without)
            for path in files:
                os.unlink(path)
            check_without(program, (compiler, version))


def test_inlined_calls_that_the_skeleton_repeats():
    program, files = split_chain("clang++", "-fsplit-dwarf-inlining")
    for path in files:
        os.unlink(path)
    wrong = difference(*stack_of(program, 100001))
    assert wrong == "losses: {'symbols_split_missing': 1}", wrong


def test_dwo_files_of_another_build_are_refused():
    for compiler in COMPILERS:
        program, files = split_chain(compiler, "-gdwarf-5")
        other, others = split_chain(compiler, "-gdwarf-5", "-DOTHER_BUILD")
        for path, wrong in zip(sorted(files), sorted(others)):
            shutil.copy(wrong, path)
        check_without(program, compiler)
        run([harness.need("llvm-dwp"), "-e", other, "-o", program + ".dwp"], os.path.dirname(other))
        check_without(program, (compiler, "package"))


def test_truncated_dwo_files_and_packages_cost_names_only():
    program, files = split_chain("clang++", "-gdwarf-5")
    run([harness.need("llvm-dwp"), "-e", program, "-o", program + ".dwp"], os.path.dirname(program))
    for path in files + [program + ".dwp"]:
        os.truncate(path, os.path.getsize(path) // 2)
    check_without(program, "truncated")
