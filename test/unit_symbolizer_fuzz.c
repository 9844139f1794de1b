/* Mutated object files through the whole symbolizer: whatever the bytes, no crash, no undefined
 * behaviour, no hang, and all memory given back. Usage: unit_symbolizer_fuzz [FILE ...]; without
 * files it compiles some. */
/* fuzz: rounds */
/* links: test/stub_announced_code.c agent/symbols/libbacktrace_region.c
 *      test/stub_module_registry.c test/agent_memory_libc.c agent/symbols/section_windows.c */
/* flags: -w -fno-sanitize=shift --param asan-stack=0 -DREGION_SEPARATE_BLOCKS
 *      -DSECTION_WINDOW=4096 -DSMALL_SECTION=0 -DHAVE_CONFIG_H -idirafter
 *      build/deps/src/gdb/include build/deps/src/gdb/libbacktrace/dwarf.c
 *      build/deps/src/gdb/libbacktrace/elf.c build/deps/src/gdb/libbacktrace/sort.c */
#include <elf.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "agent/runtime/agent_memory.h"
#include "fuzz_budget.h"
#include "agent/symbols/symbolizer.h"

enum {
  MAX_FILES = 32,
  MAX_FILE_SIZE = 4 << 20,
  ADDRESSES = 40,
  STUB_ADDRESSES = 8,
  STUBS_END = 256 /* .plt is at the start of the text */
};
static const double SLOWEST = 5.0; /* seconds of CPU time for one file, sanitizers and all */

struct input {
  unsigned char *bytes;
  size_t size;
  uint64_t text_start, text_size;
  /* Of split debug information: the program that stays as it is, and the file beside it that is
   * changed: where it is, or what is appended to the program's name. */
  const struct input *program;
  const char *place;
};
static struct input inputs[MAX_FILES];
static size_t input_count;
static char directory[] = "/tmp/symbolizer_fuzz.XXXXXX";
static uint64_t random_state;

static uint64_t next_random(void) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return random_state * 0x2545f4914f6cdd1dULL >> 11;
}

static double now(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

static void add_input(const char *path) {
  struct stat status;
  int descriptor = open(path, O_RDONLY);
  if (descriptor < 0) return;
  struct input *input = &inputs[input_count];
  if (input_count < MAX_FILES && fstat(descriptor, &status) == 0 &&
      status.st_size <= MAX_FILE_SIZE && status.st_size > 64) {
    input->size = (size_t)status.st_size;
    input->bytes = malloc(input->size);
    if (read(descriptor, input->bytes, input->size) == (ssize_t)input->size) {
      const Elf64_Ehdr *header = (const Elf64_Ehdr *)input->bytes;
      for (unsigned i = 0; i < header->e_phnum; i++) {
        const Elf64_Phdr *segment = (const Elf64_Phdr *)(input->bytes + header->e_phoff) + i;
        if (segment->p_type != PT_LOAD || (segment->p_flags & PF_X) == 0) continue;
        input->text_start = segment->p_vaddr;
        input->text_size = segment->p_memsz;
      }
      if (input->text_size > 0) input_count++;
    }
  }
  close(descriptor);
}

/* PATH: split debug information of the latest input, a program. */
static void add_split_input(const char *path, const char *place) {
  struct stat status;
  struct input *input = &inputs[input_count];
  int descriptor = open(path, O_RDONLY);
  if (descriptor < 0 || input_count == 0 || input_count == MAX_FILES) return;
  if (fstat(descriptor, &status) != 0) return;
  *input = inputs[input_count - 1];
  if (input->program == NULL) input->program = &inputs[input_count - 1];
  input->place = place;
  input->size = (size_t)status.st_size;
  input->bytes = malloc(input->size);
  if (read(descriptor, input->bytes, input->size) == (ssize_t)input->size) input_count++;
  close(descriptor);
}

static const char source[] =
    "#include <stdlib.h>\n"
    "namespace { template <class T> struct Box { T *make(int n) { return static_cast<T *>(malloc(n "
    "* sizeof(T))); } }; }\n"
    "static inline __attribute__((always_inline)) int twice(int x) { for (int i = 0; i < x; i++) x "
    "^= i; return x * 2; }\n"
    "int outer(int x) { Box<long> box; auto f = [&](int y) { return twice(y) + (box.make(y) != "
    "nullptr); }; return f(x) + f(x + "
    "1); }\n"
    "int main(int c, char **) { return outer(c); }\n";

static void compile_inputs(void) {
  static const char *const commands[] = {
      "g++ -O2 -g -gdwarf-5 -o a1 s.cc",
      "g++ -O2 -g -gdwarf-4 -o a2 s.cc",
      "g++ -O0 -g -gdwarf-2 -gstrict-dwarf -o a3 s.cc",
      "g++ -O2 -g -gz=zlib -o a4 s.cc",
      "g++ -O2 -g -ffunction-sections -o a5 s.cc",
      "g++ -O2 -s -o a6 s.cc",
      "clang++ -O2 -g -gdwarf-5 -o a7 s.cc",
      "clang++ -O2 -g -gdwarf-4 -o a8 s.cc",
      "g++ -O1 -s -fcf-protection=full -Wl,-z,ibtplt -Wl,-z,lazy -o b1 s.cc",
      "g++ -O1 -s -fuse-ld=gold -Wl,-z,lazy -o b2 s.cc",
      "objcopy --only-keep-debug a1 a9",
      "g++ -O2 -g -gdwarf-5 -gdwarf64 -o b3 s.cc",
      "objcopy --compress-debug-sections=zstd a1 b4",
      "clang++ -O2 -g -gdwarf-5 -gdwarf64 -ffunction-sections -o b5 s.cc",
      "g++ -O2 -g -gdwarf-5 -gsplit-dwarf -ffunction-sections -c -o c1.o s.cc && g++ -o c1 c1.o && "
      "llvm-dwp c1.dwo -o c1.dwp",
      "g++ -O2 -g -gdwarf-4 -gsplit-dwarf -ffunction-sections -c -o c2.o s.cc && g++ -o c2 c2.o && "
      "llvm-dwp c2.dwo -o c2.dwp",
      "clang++ -O2 -g -gdwarf-5 -gsplit-dwarf -ffunction-sections -c -o c3.o s.cc && "
      "clang++ -o c3 c3.o && llvm-dwp c3.dwo -o c3.dwp",
      "nm -D a1 >/dev/null; nm a1 | head -c 2000 >/dev/null; cp a6 b0; objcopy --only-keep-debug "
      "a1 m && "
      "objcopy -S --remove-section .comment m && xz -k m && objcopy --add-section "
      ".gnu_debugdata=m.xz b0"};
  char command[1024], path[64];
  snprintf(path, sizeof path, "%s/s.cc", directory);
  FILE *file = fopen(path, "w");
  fputs(source, file);
  fclose(file);
  for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
    snprintf(command, sizeof command, "cd %s && (%s) >/dev/null 2>&1", directory, commands[i]);
    if (system(command) != 0 && i < 4) fprintf(stderr, "cannot run: %s\n", commands[i]);
  }
  static const char names[] = "a1\0a2\0a3\0a4\0a5\0a6\0a7\0a8\0a9\0b0\0b1\0b2\0b3\0b4\0b5\0";
  for (const char *name = names; *name != '\0'; name += strlen(name) + 1) {
    snprintf(path, sizeof path, "%s/%s", directory, name);
    add_input(path);
  }
  static char dwo[3][64];
  for (int i = 0; i < 3; i++) {
    size_t before = input_count;
    snprintf(path, sizeof path, "%s/c%d", directory, i + 1);
    add_input(path);
    if (input_count == before) continue;
    snprintf(path, sizeof path, "%s/c%d.dwp", directory, i + 1);
    add_split_input(path, ".dwp");
    snprintf(dwo[i], sizeof dwo[i], "%s/c%d.dwo", directory, i + 1);
    add_split_input(dwo[i], dwo[i]);
  }
}

/* The parts where a change matters: the debug sections and symbol tables more often than code. */
static size_t interesting_offset(const struct input *input) {
  const Elf64_Ehdr *header = (const Elf64_Ehdr *)input->bytes;
  unsigned kind = (unsigned)(next_random() % 8);
  if (kind == 0) return next_random() % sizeof *header;
  if (header->e_shoff == 0 || header->e_shoff + header->e_shnum * sizeof(Elf64_Shdr) > input->size)
    return next_random() % input->size;
  if (kind == 1) return header->e_shoff + next_random() % (header->e_shnum * sizeof(Elf64_Shdr));
  const Elf64_Shdr *sections = (const Elf64_Shdr *)(input->bytes + header->e_shoff);
  for (int tries = 0; tries < 100; tries++) {
    const Elf64_Shdr *section = &sections[next_random() % header->e_shnum];
    bool debug = (section->sh_flags & SHF_ALLOC) == 0 || section->sh_type == SHT_DYNSYM ||
                 section->sh_type == SHT_NOTE || section->sh_type == SHT_RELA ||
                 (section->sh_type == SHT_PROGBITS &&
                  (section->sh_entsize == 8 || section->sh_entsize == 16));
    if (debug && section->sh_type != SHT_NOBITS && section->sh_size > 0 &&
        section->sh_offset + section->sh_size <= input->size) {
      size_t at = next_random() % section->sh_size;
      if (kind < 5) at %= 256; /* headers of the sections */
      return section->sh_offset + at % section->sh_size;
    }
  }
  return next_random() % input->size;
}

static size_t mutate(const struct input *input, unsigned char *out) {
  static const unsigned char values[] = {0, 1, 2, 0x7f, 0x80, 0xff, 0x16, 0x40, 0xfe};
  memcpy(out, input->bytes, input->size);
  size_t size = input->size;
  for (unsigned changes = 1 + (unsigned)(next_random() % 6) * (unsigned)(next_random() % 6);
       changes > 0; changes--) {
    size_t at = interesting_offset(input);
    switch (next_random() % 7) {
      case 0: out[at] ^= (unsigned char)(1 << next_random() % 8); break;
      case 1: out[at] = values[next_random() % sizeof values]; break;
      case 2: out[at] = (unsigned char)next_random(); break;
      case 3: /* a run of one value */
        for (size_t n = 1 + next_random() % 16, v = values[next_random() % sizeof values];
             n > 0 && at < size; n--)
          out[at++] = (unsigned char)v;
        break;
      case 4: { /* a piece from elsewhere */
        size_t from = interesting_offset(input), n = 1 + next_random() % 64;
        for (; n > 0 && at < size && from < size; n--) out[at++] = input->bytes[from++];
        break;
      }
      case 5: { /* a small or huge number */
        uint64_t number =
            next_random() % 4 == 0 ? ~0ULL >> next_random() % 64 : next_random() % 4096;
        if (at + 8 <= size) memcpy(out + at, &number, 1u << next_random() % 4);
        break;
      }
      default:
        if (next_random() % 16 == 0) return next_random() % size; /* truncated */
    }
  }
  return size;
}

static bool write_file(const char *path, const unsigned char *bytes, size_t size) {
  int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  bool written = descriptor >= 0 && write(descriptor, bytes, size) == (ssize_t)size;
  if (!written) fprintf(stderr, "cannot write %s\n", path);
  close(descriptor);
  return written;
}

static int run_one(const struct input *input, unsigned long number, unsigned char *bytes) {
  char path[64], split[80] = "";
  size_t size = mutate(input, bytes);
  snprintf(path, sizeof path, "%s/f%lu", directory, number);
  if (input->program != NULL) {
    snprintf(split, sizeof split, "%s%s", input->place[0] == '/' ? "" : path, input->place);
    if (!write_file(split, bytes, size)) return 1;
    if (!write_file(path, input->program->bytes, input->program->size)) return 1;
  } else if (!write_file(path, bytes, size)) {
    return 1;
  }
  struct mapping map = {.limit = UINT64_MAX, .kind = MAPPING_FILE, .path = path};
  double start = now(CLOCK_PROCESS_CPUTIME_ID);
  struct symbolizer_session *session = symbolizer_open();
  for (int i = 0; i < ADDRESSES; i++)
    symbolizer_resolve(
        session, &map,
        input->text_start + input->text_size * (size_t)i / ADDRESSES + next_random() % 16);
  for (int i = 0; i < STUB_ADDRESSES; i++)
    symbolizer_resolve(session, &map, input->text_start + next_random() % STUBS_END);
  symbolizer_close(session);
  double seconds = now(CLOCK_PROCESS_CPUTIME_ID) - start;
  if (seconds > SLOWEST) return fprintf(stderr, "%s took %.1f s (file kept)\n", path, seconds), 1;
  unlink(path);
  if (split[0] != '\0' && input->place[0] == '.') unlink(split);
  return 0;
}

int main(int count, char **words) {
  random_state = fuzz_seed(0x9e3779b97f4a7c15ULL);
  if (mkdtemp(directory) == NULL) return 1;
  for (int i = 1; i < count; i++) add_input(words[i]);
  if (count == 1) compile_inputs();
  if (input_count == 0) return fprintf(stderr, "no input files\n"), 1;
  unsigned char *bytes = malloc(MAX_FILE_SIZE);
  unsigned long number = 0;
  int failed = 0;
  double end = now(CLOCK_MONOTONIC) + fuzz_seconds(15);
  for (; now(CLOCK_MONOTONIC) < end && !failed; number++)
    failed = run_one(&inputs[next_random() % input_count], number, bytes);
  struct symbolizer_counters counters;
  symbolizer_read_counters(&counters);
  printf(
      "%lu mutants of %zu files; malformed %lu, without split files %lu, unnamed addresses %lu of "
      "%lu\n",
      number, input_count, (unsigned long)counters.symbols_files_malformed,
      (unsigned long)counters.symbols_split_missing, (unsigned long)counters.symbols_unnamed,
      number * (ADDRESSES + STUB_ADDRESSES));
  for (size_t i = 0; i < input_count; i++) free(inputs[i].bytes);
  free(bytes);
  char command[128];
  snprintf(command, sizeof command, "rm -rf %s", directory);
  if (!failed) return system(command) != 0;
  return 1;
}
