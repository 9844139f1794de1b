"""libpprofagent.so as a file: what it needs, exports, and asks of the loader."""
import os
import re
import subprocess

import harness

NEEDED = {"libc.so.6", "ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1"}
TLS_LIMIT = 128


def tool(*arguments):
    done = subprocess.run(arguments + (harness.agent(),), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def exports():
    """Functions and data; the names of versions are absolute symbols."""
    return {
        line.split()[-1].split("@")[0]
        for line in tool("nm", "-D", "--defined-only").splitlines()
        if line.split()[-2] != "A"
    }


def undefined():
    """What the loader binds, which others may define too."""
    return {
        line.split()[-1].split("@")[0] for line in tool("nm", "-D", "--undefined-only").splitlines()
    }


def called():
    """The functions of libc that it binds itself (shim/next/libc_binding.c)."""
    with open(os.path.join(harness.BUILD, "gen", "libc_names.h")) as file:
        return set(re.findall(r"X\(\d+, (\w+),", file.read()))


def interposed_list():
    """The names in shim/next/interposed.h, as its X macros give them."""
    with open(harness.source("interposed.h")) as file:
        text = re.sub(r"#define NEXT_AL(SO|LOCATOR)\(.*?\n\n", "", file.read(), flags=re.DOTALL)
    return set(re.findall(r"^\s*X\([^,]+,\s*(\w+),", text, re.MULTILINE))


def test_needed_is_libc_only():
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", tool("readelf", "-d")))
    assert needed <= NEEDED and "libc.so.6" in needed, needed


def test_exports_only_what_is_interposed():
    listed = interposed_list()
    assert {"malloc", "free", "_Znwm", "mallocx", "tc_malloc"} <= listed, listed
    assert (
        exports() == listed
    ), "exported, not in interposed.h: %s; in interposed.h, not exported: %s" % (
        sorted(exports() - listed),
        sorted(listed - exports()),
    )


def test_no_function_is_left_to_the_loader_to_bind():
    # libc's are bound to libc itself (test_other_preloads.py); what is left is data, of which a
    # program may have a copy.
    with open(os.path.join(harness.BUILD, "gen", "libc_names.h")) as file:
        newest = re.search(r'LIBC_NEWEST "(\w+)@', file.read())[1]  # referred to for its version
    data = {"environ", "__environ", "__libc_single_threaded", "__libc_stack_end", "_r_debug"}
    assert undefined() == data | {newest}, undefined()
    assert not re.search(r"JUMP_SLOT.* %s@" % newest, tool("readelf", "-rW"))
    some = {"memcpy", "clock_gettime", "__errno_location", "pthread_create", "syscall"}
    assert len(called()) > 100 and some <= called(), called()


def test_a_libc_that_is_too_old_is_refused_by_the_loader():
    def versions(pattern, text):
        return [tuple(map(int, version.split("."))) for version in re.findall(pattern, text)]

    needed = versions(r"Name: GLIBC_([\d.]+)", tool("readelf", "-VW"))
    with open(os.path.join(harness.BUILD, "gen", "libc_names.h")) as file:
        listed = versions(r", GLIBC_([\d.]+)\)", file.read())
    assert max(needed) == max(listed) and listed, (needed, listed)


def test_no_dynamic_tls():
    assert "__tls_get_addr" not in undefined()
    assert not re.search(
        r"R_X86_64_(DTPMOD64|DTPOFF64|TLSDESC)|R_AARCH64_TLS(DESC|_DTPMOD)", tool("readelf", "-rW")
    )


def test_thread_local_storage_is_small():
    sizes = [
        int(line.split()[5], 16)
        for line in tool("readelf", "-lW").splitlines()
        if line.split()[:1] == ["TLS"]
    ]
    assert sum(sizes) <= TLS_LIMIT, sizes
    harness.note("PT_TLS: %d bytes" % sum(sizes))


def test_bound_now_and_read_only_after_relocation():
    dynamic = tool("readelf", "-d")
    assert re.search(r"BIND_NOW|FLAGS.*NOW", dynamic), "not linked with -z now"
    assert "TEXTREL" not in dynamic
    assert "GNU_RELRO" in tool("readelf", "-lW")


def test_no_executable_stack_and_no_writable_code():
    segments = [
        line
        for line in tool("readelf", "-lW").splitlines()
        if re.match(r"\s+(LOAD|GNU_STACK)\s", line)
    ]
    stack = [line for line in segments if "GNU_STACK" in line]
    assert len(stack) == 1 and "RWE" not in stack[0], stack
    assert not [line for line in segments if re.search(r"R?WE", line)], segments


def test_no_paths_of_the_build_machine():
    with open(harness.agent(), "rb") as file:
        data = file.read()
    for word in (harness.ROOT.encode() + b"/agent", harness.ROOT.encode() + b"/shim"):
        stripped = subprocess.run(
            ["strip", "-g", "-o", "/dev/stdout", harness.agent()], capture_output=True
        ).stdout
        assert word not in (stripped or data), "%s is in the file" % word.decode()
    assert b"RPATH" not in tool("readelf", "-d").encode() and "RUNPATH" not in tool("readelf", "-d")


def test_what_it_imports_cannot_harm_the_host():
    """Calls that would change the host: allocation by name of a libc-internal door, signals,
    environment, exit paths."""
    forbidden = {
        "signal",
        "__libc_malloc",
        "__libc_free",
        "setenv",
        "unsetenv",
        "putenv",
        "clearenv",
        "chdir",
        "setlocale",
        "umask",
        "abort",
        "system",
        "popen",
        "fork",
        "vfork",
        "strdup",
        "getline",
        "asprintf",
        "opendir",
        "fopen",
        "tmpfile",
        "pthread_key_create",
        "dlopen",
        "printf",
        "puts",
        "perror",
        "getaddrinfo",
        "__assert_fail",
    }
    # For what is exported there are stubs, also where only code asks for it that is left out.
    referred = set(re.findall(r"<__wrap_(\w+)>$", tool("objdump", "-d"), re.MULTILINE))
    found = (undefined() | called() - (exports() - referred)) & forbidden
    assert not found, "imports %s" % sorted(found)


def sections():
    """{name: (address, size)} of the library's sections."""
    found = re.findall(
        r"^\s*\[ *\d+\] (\S+)\s+\S+\s+([0-9a-f]+) [0-9a-f]+ ([0-9a-f]+)",
        tool("readelf", "-SW"),
        re.MULTILINE,
    )
    return {name: (int(address, 16), int(size, 16)) for name, address, size in found}


def test_layout_is_as_the_code_expects():
    # shim/layout.ld: the hash table is written during relocation (absent_names.c) and read-only
    # afterwards.
    relro = re.search(r"GNU_RELRO\s+\S+\s+(\S+)\s+\S+\s+\S+\s+(\S+)", tool("readelf", "-lW"))
    low, high = int(relro[1], 16), int(relro[1], 16) + int(relro[2], 16)
    address, size = sections()[".gnu.hash"]
    assert low <= address and address + size <= high, "%x..%x not within RELRO %x..%x" % (
        address,
        address + size,
        low,
        high,
    )
    assert ".hash" not in sections()


def test_layout_names_variables_that_there_are():
    """A page of zeroes that nothing has written costs each forked child a fault."""
    with open(os.path.join(harness.ROOT, "shim", "layout.ld")) as file:
        named = set(re.findall(r"\.bss\.(\w+)", file.read()))
    there = {line.split()[-1].split(".")[0] for line in tool("nm").splitlines() if line.strip()}
    assert named <= there, named - there


def test_pages_written_at_start():
    # Each costs an exec of the host near a microsecond: .data and .startup as far as the beginning
    # of the last of its names. (Of config, which lies before that, the second half is written only
    # where it is needed.)
    page = 4096
    address, _ = sections()[".data"]
    end = next(
        int(line.split()[0], 16)
        for line in tool("nm").splitlines()
        if line.split()[-1] == "choosing"
    )
    pages = (end - 1) // page - address // page + 1
    harness.note(
        "%d pages of variables, %d bytes of RELRO"
        % (pages, sections()[".got"][0] + sections()[".got"][1] - sections()[".init_array"][0])
    )
    assert pages <= 3, "%d pages: is shim/layout.ld up to date?" % pages


def test_a_forked_child_clears_all_of_the_agents_variables():
    """They are between the linker's marks, and zero at the start; so are those of what is linked
    in."""
    objects = harness.objects("agent")
    objects += [
        os.path.join(harness.BUILD, "deps", name)
        for name in os.listdir(os.path.join(harness.BUILD, "deps"))
    ]
    objects = [name for name in objects if name.endswith((".o", ".a")) and "sanitized" not in name]
    listing = subprocess.run(
        ["readelf", "-SW"] + objects, capture_output=True, text=True, check=True
    ).stdout
    initialised = re.findall(r"\] (\.data\S*)\s+PROGBITS\s+\S+ \S+ (\S+)", listing)
    initialised = {
        name for name, size in initialised if int(size, 16) and not name.startswith(".data.rel.ro")
    }
    assert initialised <= {
        ".data.rel.local"
    }, initialised  # libprotobuf-c's allocator, which nothing changes
    place = {}
    for line in tool("nm").splitlines():
        address, kind, name = line.rsplit(None, 2) if line[0] != " " else (None, None, None)
        place.setdefault(name, []).append((kind, address and int(address, 16)))
    marks = {
        name: place[name][0][1]
        for name in (
            "agent_state_begin",
            "agent_state_end",
            "agent_start_state_begin",
            "agent_start_state_end",
        )
    }
    variables = subprocess.run(["nm"] + objects, capture_output=True, text=True, check=True).stdout
    outside = set()
    for name in set(re.findall(r" [bB] (\S+)", variables)):
        found = [address for kind, address in place.get(name, []) if kind in "bB"]
        if len(found) != 1:  # unused, or two of one name
            continue
        if not (
            marks["agent_state_begin"] <= found[0] < marks["agent_state_end"]
            or marks["agent_start_state_begin"] <= found[0] < marks["agent_start_state_end"]
        ):
            outside.add(name)
    outside -= {"watched"}  # thread-local: a child begins in a thread of the host, where it is 0
    outside -= {"x.0"}  # libzstd's (1.5.7): the address of an empty buffer, never written
    assert outside == {
        "accepted_device",
        "accepted_inode",
        "address",
        "arguments",
        "allowance_whole_ns",
        "filters_at_start",
        "has_begun",
        "has_looked",
        "lacking",
        "libcs",
        "keys",
        "key_state",
    }, outside


def shim_objects(*names):
    found = [path for path in harness.objects("shim") if os.path.basename(path) in names]
    assert len(found) == len(names), (names, found)
    return found


def shim_symbols(option, objects):
    listing = subprocess.run(["nm", option] + objects, capture_output=True, text=True, check=True)
    return {
        line.split()[-1]
        for line in listing.stdout.splitlines()
        if line.strip() and not line.endswith(":")
    }


def test_what_runs_while_relocating_calls_nobody():
    # libc's functions may be bound to a program that is not relocated yet (an ASan program defines
    # strcmp).
    objects = shim_objects("absent_names.o", "dynamic_symbols.o")
    found = shim_symbols("--undefined-only", objects) - shim_symbols("--defined-only", objects)
    found = {
        name for name in found if not name.startswith("startup_")
    }  # only their addresses are taken
    assert found <= {"_DYNAMIC", "_GLOBAL_OFFSET_TABLE_", "__ehdr_start", "_r_debug", "real"}, found


def test_hot_paths_call_nothing_that_locks_or_allocates():
    hot = [
        "alloc_interposers.o",
        "new_interposers.o",
        "heap_sampling.o",
        "sampler.o",
        "stack_capture.o",
        "cfi.o",
        "cfi_expression.o",
        "epilogue.o",
        "return_address.o",
        "readable_pages.o",
        "module_registry.o",
        "unwind_rule.o",
        "stack_table.o",
        "heap_table.o",
        "heap_peak.o",
        "live_table.o",
        "table_memory.o",
        "cpu_sampling.o",
        "sample_buffer.o",
        "interrupted_call.o",
        "sampling_signal.o",
        "host_handlers.o",
        "thread_registry.o",
        "threadcreate_table.o",
    ]
    allowed = {
        "_GLOBAL_OFFSET_TABLE_",
        "__ehdr_start",
        "_etext",
        "__start_thread_trampolines",
        "__stop_thread_trampolines",
        "__errno_location",
        "memcpy",
        "memmove",
        "memset",
        "memcmp",
        "strcmp",
        "strnlen",
        "_dl_find_object",  # lock-free since glibc 2.35
        "__libc_current_sigrtmin",
        "__libc_current_sigrtmax",  # sampling_signal_choose: agent
        "getauxval",  # once a thread
        "snprintf",  # heap_sampling_start: before main
        "agent_start_late",
    }  # once, in a forked child
    found = shim_symbols("--undefined-only", shim_objects(*hot))
    found -= shim_symbols("--defined-only", harness.objects("shim"))
    assert found <= allowed, "unexpected: %s" % sorted(found - allowed)


def test_uncontended_locks_reach_no_clock_and_no_table():
    """What a wrapper runs where nobody waits: the next definition through a pointer, else only its
    three ways out, all of them for later."""
    listing = subprocess.run(
        ["objdump", "-d", "--no-show-raw-insn", harness.agent()],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    found = re.findall(r"^[0-9a-f]+ <([^>@]+)(?:@@[^>]+)?>:\n((?:.+\n)*)", listing, re.MULTILINE)
    bodies = dict(found)  # those that have two versions: the newer one's
    for name in (
        "pthread_mutex_lock",
        "pthread_mutex_unlock",
        "pthread_rwlock_rdlock",
        "pthread_rwlock_unlock",
        "pthread_spin_lock",
        "pthread_spin_unlock",
        "mtx_lock",
        "mtx_unlock",
        "pthread_cond_signal",
        "pthread_cond_broadcast",
        "cnd_signal",
        "cnd_broadcast",
    ):
        body = bodies[name]
        targets = {
            re.split("[+@]", target)[0]
            for target in re.findall(r"(?:call|jmp|j[a-z]+) +[0-9a-f]+ <([^>]+)>", body)
        }
        assert targets <= {
            name,
            name + ".cold",
            "first_" + name,
            "wait_" + name,
            "release_" + name,
            "tell_" + name,
        }, (name, targets)
        assert "%fs:" not in body and not re.search(r"\block |syscall|rdtsc", body), name
        assert re.search(r"(call|jmp) +\*", body), name
