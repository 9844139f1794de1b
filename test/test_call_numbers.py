"""Which system call an instruction makes, as shim/base/call_number.c reads it, against objdump."""
import bisect
import glob
import os
import re
import struct
import subprocess

import harness

PADDING = 64  # nops between functions: a disassembler that has lost its step finds it again
LINE = re.compile(r"^\s*([0-9a-f]+):\t((?:[0-9a-f]{2} )+)\s*\t(\S.*)$")
A_REGISTERS = ("%rax", "%eax", "%ax", "%al", "%ah")
# Leave eax alone although it is their last operand, or have no operand that they write.
READERS = (
    "cmp",
    "test",
    "push",
    "nop",
    "endbr64",
    "data16",
    "cs",
    "j",
    "bt ",
    "prefetch",
    "mfence",
    "lfence",
    "sfence",
    "ucomi",
    "comi",
    "leave",
)
WRITERS = (
    "syscall",
    "lods",
    "in",
    "rdtsc",
    "rdtscp",
    "xgetbv",
    "lahf",
    "cltq",
    "cwtl",
    "cqto",
    "cltd",
    "xchg",
    "xadd",
    "lock",
    "rep",
    "repz",
    "repnz",
    "rdpmc",
    "vmcall",
    "xlat",
)
# What SA_RESTART does not, or not always, make go on; libc has their numbers in its code.
OF_LIBC = (
    "poll",
    "epoll_wait",
    "pause",
    "accept",
    "ppoll",
    "pselect6",
    "epoll_pwait",
    "clock_nanosleep",
    "futex",
    "rt_sigtimedwait",
    "rt_sigsuspend",
    "semtimedop",
    "msgsnd",
    "msgrcv",
    "read",
    "readv",
    "write",
    "writev",
    "recvfrom",
    "recvmsg",
    "recvmmsg",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "accept4",
    "connect",
    "wait4",
    "waitid",
    "flock",
    "fcntl",
    "getrandom",
)


class Object:
    """An ELF file's functions: where the unwind tables say that they begin and end."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = file.read()
        self.segments, self.tables = [], None
        assert self.data[:6] == b"\x7fELF\x02\x01", path
        (phoff,) = struct.unpack_from("<Q", self.data, 32)
        entry, count = struct.unpack_from("<HH", self.data, 54)
        for i in range(count):
            header = struct.unpack_from("<IIQQQQ", self.data, phoff + i * entry)
            kind, flags, offset, address, _, size = header
            if kind == 1:
                self.segments.append((address, offset, size, flags & 1))
            if kind == 0x6474E550:
                self.tables = address
        self.starts, self.descriptions = self.read_table() if self.tables is not None else ([], [])

    def offset(self, address):
        for start, offset, size, _ in self.segments:
            if start <= address < start + size:
                return offset + address - start
        return None

    def read_table(self):
        at = self.offset(self.tables)
        if at is None or self.data[at : at + 4] != b"\x01\x1b\x03\x3b":
            return [], []
        (count,) = struct.unpack_from("<I", self.data, at + 8)
        pairs = list(struct.iter_unpack("<ii", self.data[at + 12 : at + 12 + 8 * count]))
        return [self.tables + pair[0] for pair in pairs], [self.tables + pair[1] for pair in pairs]

    def function(self, address):
        """(start, size) of the function around an address, or None."""
        i = bisect.bisect_right(self.starts, address) - 1
        if i < 0:
            return None
        (size,) = struct.unpack_from("<I", self.data, self.offset(self.descriptions[i]) + 12)
        return (self.starts[i], size) if address < self.starts[i] + size else None

    def functions_with_syscalls(self):
        found = set()
        for start, offset, size, executable in self.segments:
            at = self.data.find(b"\x0f\x05", offset, offset + size) if executable else -1
            while at >= 0:
                found.add(self.function(start + at - offset))
                at = self.data.find(b"\x0f\x05", at + 1, offset + size)
        found.discard(None)
        return sorted(found)


def disassemble(pieces):
    """For each piece of code its instructions: [(offset, size, text)]."""
    blob, begins = bytearray(), []
    for piece in pieces:
        begins.append(len(blob))
        blob += piece + b"\x90" * PADDING
    path = os.path.join(harness.scratch(), "code")
    with open(path, "wb") as file:
        file.write(blob)
    command = [harness.need("objdump"), "-D", "-w", "-b", "binary", "-m", "i386:x86-64", path]
    done = subprocess.run(command, capture_output=True, text=True)
    os.unlink(path)
    result = [[] for _ in pieces]
    for line in done.stdout.splitlines():
        found = LINE.match(line)
        if found:
            address = int(found.group(1), 16)
            which = bisect.bisect_right(begins, address) - 1
            if address - begins[which] < len(pieces[which]):
                text = found.group(3).strip()
                if text[0] == "j":  # its target is an offset too
                    text = re.sub(
                        r"0x([0-9a-f]+)$",
                        lambda m: "0x%x" % (int(m.group(1), 16) - begins[which]),
                        text,
                    )
                result[which].append((address - begins[which], len(found.group(2).split()), text))
    return result


def writes_eax(text):
    name = text.split()[0]
    if (
        name in WRITERS
        or name.startswith(("call", "cmpxchg", "ret", "jmp"))
        or (name.startswith(("mul", "imul", "div", "idiv")) and "," not in text)
    ):
        return True
    operands = text[len(name) :].split("#")[0].strip()
    in_memory = "(" in operands.split(",")[-1]
    return operands.endswith(A_REGISTERS) and not in_memory and not text.startswith(READERS)


REGISTERS = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split()


def register_number(name):
    """Of %r12d, %edi, ..."""
    bare = name.strip("%").rstrip("d") if name[2].isdigit() else "r" + name.strip("%")[1:]
    return REGISTERS.index(bare)


def at_entry(instructions, i, k, register):
    """What %register was when the function was entered, as the shape of glibc's
    __syscall_cancel_arch shows it: only moves and tests before, only stores above the return
    address, no jump in the function that leads back."""
    end, low = 8, register_number(register)
    for index, (_, _, text) in enumerate(instructions[:k]):
        name, _, operands = text.partition(" ")
        store = re.fullmatch(r"%\w+,(0x[0-9a-f]+)\(%rsp\)", operands.strip())
        if name not in (
            "mov",
            "test",
            "testb",
            "testl",
            "cmp",
            "cmpl",
            "cmpb",
            "endbr64",
            "lea",
            "movslq",
            "nop",
            "xor",
        ) and not re.match("j[^m]", name):
            return None
        written = operands.split("#")[0].split(",")[-1].strip()
        if name in ("mov", "lea", "movslq", "xor") and written.startswith("%"):
            if register_number(written) in ([4, 5, low] if index < i else [4, 5]):
                return None
        elif name == "mov" and not (store and int(store.group(1), 16) >= 8):
            return None
        elif name == "mov":
            end = max(end, int(store.group(1), 16) + 8)
    for _, _, text in instructions:
        target = re.match(r"(?:j\w+|loop\w*)\s+0x([0-9a-f]+)$", text)
        if target and int(target.group(1), 16) <= instructions[k][0]:
            return None
    return "e%d<%d" % (low, end)


def expected(instructions, k):
    """The number in eax at the system call instructions[k] as the text says it: a number, or as the
    driver writes where else it is, or None."""
    for i in range(k - 1, -1, -1):
        if writes_eax(instructions[i][2]):
            break
    else:
        return None
    text = instructions[i][2]
    constant = re.fullmatch(r"mov[lq]?\s+\$0x([0-9a-f]+),%[er]ax", text)
    kept = re.fullmatch(r"mov\s+(%\w+),%[er]ax", text)
    loaded = re.fullmatch(r"mov\s+(-?0x[0-9a-f]+|)\((%r[sb]p)\),%[er]ax", text)
    zero = re.fullmatch(r"xor\s+%eax,%eax", text)
    if kept and i < k - 1:
        return at_entry(instructions, i, k, kept.group(1))
    for _, _, other in instructions:
        target = re.match(r"(?:j\w+|loop\w*)\s+0x([0-9a-f]+)$", other)
        if target and instructions[i][0] < int(target.group(1), 16) <= instructions[k][0]:
            return None
    if constant:
        return int(constant.group(1), 16)
    if loaded and i == k - 1:
        return "m%d%+d" % (register_number(loaded.group(2)), int(loaded.group(1) or "0", 16))
    return "r%d" % register_number(kept.group(1)) if kept else 0 if zero else None


def driver_says(questions):
    """questions: [(code, offset)]; the driver's lines."""
    sources = [harness.source(name + ".c") for name in ("call_number", "instruction")]
    driver = harness.build("call_numbers.c", "-O2", "-fsanitize=address,undefined", *sources)
    text = "".join("%d %s\n" % (at, code.hex()) for code, at in questions)
    done = subprocess.run([driver], input=text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.split()


def compare(path):
    """{number: how often it was accepted}, how many calls, those refused though constant."""
    elf = Object(path)
    functions = elf.functions_with_syscalls()
    codes = [elf.data[elf.offset(start) : elf.offset(start) + size] for start, size in functions]
    questions, answers, names = [], [], []
    for (start, _), code, instructions in zip(functions, codes, disassemble(codes)):
        real = {
            offset: k
            for k, (offset, _, text) in enumerate(instructions)
            if text.split()[0] == "syscall"
        }
        at = code.find(b"\x0f\x05")
        while at >= 0:
            questions.append((code, at))
            answers.append(expected(instructions, real[at]) if at in real else None)
            names.append("%s: %#x" % (path, start + at))
            at = code.find(b"\x0f\x05", at + 1)
    accepted, refused = {}, []
    for said, right, name in zip(driver_says(questions), answers, names):
        if said == "?":
            refused += [(right, name)] if isinstance(right, int) else []
            continue
        assert said == str(right), "%s is read as call %s; objdump shows %s" % (name, said, right)
        accepted[said] = accepted.get(said, 0) + 1
    return accepted, len(questions), refused


def numbers():
    with open("/usr/include/x86_64-linux-gnu/asm/unistd_64.h") as file:
        pairs = re.findall(r"#define __NR_(\w+) (\d+)", file.read())
    return {name: int(number) for name, number in pairs}


def passed_numbers(elf):
    """What is pushed as the last argument of a call: the number, where libc's cancellation points
    call a function that makes the system call (glibc 2.41)."""
    start, offset, size, _ = next(segment for segment in elf.segments if segment[3])
    code, found = elf.data[offset : offset + size], set()
    for match in re.finditer(rb"\x6a(.)|\x68(....)", code, re.DOTALL):
        found.add(int.from_bytes(match.group(1) or match.group(2), "little"))
    return found


def test_each_restartable_call_of_libc_is_understood():
    path = harness.need_library("libc.so.6")
    accepted, total, refused = compare(path)
    known = numbers()
    harness.note(
        "%d of %d accepted, refused although constant: %s"
        % (sum(accepted.values()), total, refused[:20])
    )
    missing = [name for name in OF_LIBC if str(known[name]) not in accepted]
    if "e6<16" in accepted:  # __syscall_cancel_arch; its caller may make the call itself
        assert any(said.startswith("m") for said in accepted), accepted
        passed = passed_numbers(Object(path))
        missing = [name for name in missing if known[name] not in passed]
    wanted = {known[name] for name in OF_LIBC}
    assert not missing, missing
    assert not [item for item in refused if item[0] in wanted], refused
    assert sum(accepted.values()) > 300, accepted


def test_every_system_call_of_large_programs():
    """Code of many compilers: none is read as another call than it is."""
    libraries = "/usr/lib/x86_64-linux-gnu/lib"
    rust = os.path.expanduser("~/.rustup/toolchains/*/bin/")
    names = (
        "asan",
        "tsan",
        "lsan",
        "ubsan",
        "gomp",
        "uv",
        "crypto",
        "nspr4",
        "glib-2.0",
        "rustc_driver-*",
        "m",
        "gcc_s",
    )
    patterns = [
        "/lib64/ld-linux-x86-64.so.2",
        "/usr/bin/node",
        "/usr/bin/python3.*",
        "/usr/sbin/nginx",
        "/usr/bin/cargo",
        rust + "cargo",
    ]
    patterns += [libraries + name + ".so*" for name in names]
    paths = sorted({os.path.realpath(path) for pattern in patterns for path in glob.glob(pattern)})
    total, understood, objects = 0, 0, 0
    for path in paths:
        with open(path, "rb") as file:
            if file.read(4) != b"\x7fELF":
                continue
        accepted, calls, _ = compare(path)
        total += calls
        objects += 1
        understood += sum(accepted.values())
    harness.note("%d objects, %d look-alikes, %d understood" % (objects, total, understood))
    assert objects >= 6 and total >= 50 and understood >= 20, (objects, total, understood)


def test_look_alikes():
    """Bytes that end as `mov $number,%eax` does, of something else; and what may come between."""
    table = [  # code before the `syscall`, what is right
        ("b807000000", "7"),
        ("41b807000000", "?"),
        ("48b80700000000000000", "?"),
        ("66b80700", "?"),
        ("31c0", "0"),
        ("4531c0", "?"),
        ("4831c0", "0"),
        ("c745b807000000", "?"),
        ("b8070000004531c0", "7"),
        ("b80700000031c9", "7"),
        ("b80700000089d0", "r2"),
        ("b80700000088c4", "?"),
        ("b80700000024f0", "?"),
        ("b807000000f30f1ec8", "?"),
        ("b807000000f30f1efa", "7"),
        ("b807000000e800000000", "?"),
        ("b807000000eb00", "?"),
        ("b80700000000c0", "?"),
        ("b80700000000c4", "?"),
        ("b807000000f00fb10b", "?"),
        ("b80700000085c07500", "?"),
        ("85c0750583c101b807000000", "?"),
        ("85c07403b807000000", "?"),
        ("48c7c007000000", "7"),
        ("49c7c007000000", "?"),
        ("89d8", "r3"),
        ("4889d8", "r3"),
        ("4c89e0", "r12"),
        ("89c8", "?"),
        ("4489d8", "?"),
        ("89d89090", "e3<8"),
        ("b8070000004990", "?"),
        ("b8070000004190", "?"),
        ("b80700000090", "7"),
        ("b807000000c5f96ec0", "?"),
        ("b8070000000f94c0", "?"),
        ("b8070000000f44c1", "?"),
        ("b8070000000f44c8", "7"),
        ("b80700000058", "?"),
        ("b8070000004158", "7"),
        ("b807000000b400", "?"),
        ("b80700000041b400", "7"),
        ("b807000000488b7c2408", "7"),
        ("b807000000b0", "?"),
        # From memory: only of rsp or rbp, without an index or a segment, and right before.
        ("488b442410", "m4+16"),
        ("8b442410", "m4+16"),
        ("488b45f8", "m5-8"),
        ("488b042400000000", "?"),
        ("488b0424", "m4+0"),
        ("488b8424f0ffffff", "m4-16"),
        ("4a8b442410", "?"),
        ("488b441c10", "?"),
        ("498b442410", "?"),
        ("488b4310", "?"),
        ("488b0510000000", "?"),
        ("64488b442410", "?"),
        ("67488b442410", "?"),
        ("668b442410", "?"),
        ("488b44241090", "?"),
        # From a register as it was at the function's entry.
        ("4889f04889ce", "e6<8"),
        ("89f04889ce", "e6<8"),
        ("31f689f04889ce", "?"),
        ("4889f04889ce4c895c2408", "e6<16"),
        ("4889f04889ce4c895c2420", "e6<40"),
        ("4889f04889ce4c891c24", "?"),
        ("4889f04889ce4c895c24f8", "?"),
        ("4889f04889ce4c8919", "?"),
        ("4889f04889ce4c895c0c08", "?"),
        ("4889f04889ce64894c2408", "?"),
        ("564889f04889ce", "?"),
        ("4889f04889ce56", "?"),
        ("4883ec084889f04889ce", "?"),
        ("4889e54889f04889ce", "?"),
        ("4889f04889cec6442408ff", "?"),
        ("4889f04889ceff4c2408", "?"),
        ("4889f04889ce0f11442408", "?"),
        ("8b07f607087500498bfb4889f04889d74889ce4c895c2408", "?"),
        ("8b07f6070875404989fb4889f04889d74889ce4c895c2408", "e6<16"),
        ("8b07f60708757f4989fb4889f04889d74889ce4c895c2408", "e6<16"),
        ("8b07f6070875f94989fb4889f04889d74889ce4c895c2408", "?"),
    ]
    said = driver_says([(bytes.fromhex(code + "0f05c3"), len(code) // 2) for code, _ in table])
    wrong = [(code, right, found) for (code, right), found in zip(table, said) if right != found]
    assert not wrong, wrong
    # Jumps to the `syscall` itself, from before and from behind it.
    jumped = [
        ("eb05b8070000000f05c3", 7),
        ("b8070000000f05ebfc", 5),
        ("b8070000000f05750fc3", 5),
        ("b8070000000f0575f7c3", 5),
    ]
    said = driver_says([(bytes.fromhex(code), at) for code, at in jumped])
    assert said == ["?", "?", "7", "7"], "a jump in between is not seen"
