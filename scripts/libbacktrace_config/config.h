/* Configuration of libbacktrace (dwarf.c, elf.c, sort.c) and libiberty's demanglers for this build.
 * Only the DWARF reader, the xz decoder and the sort of libbacktrace are used: files are opened and
 * read by elf_file.c, memory comes from libbacktrace_region.c (agent/symbols/), so nothing of the
 * host (loader, allocator, mmap) is reached from it. */
#define BACKTRACE_ELF_SIZE (__SIZEOF_POINTER__ * 8)
#define HAVE_ATOMIC_FUNCTIONS 1
#define HAVE_SYNC_FUNCTIONS 1
#define HAVE_DECL_STRNLEN 1
#define HAVE_STDINT_H 1
#define HAVE_STDLIB_H 1
#define HAVE_STRING_H 1
#define HAVE_LIMITS_H 1
/* deliberately not set: HAVE_DL_ITERATE_PHDR, HAVE_LSTAT, HAVE_READLINK, HAVE_FCNTL, HAVE_ZLIB,
 * HAVE_LIBLZMA, HAVE_GETEXECNAME */
