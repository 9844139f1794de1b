/* What libunwind's configure would find out, for the files that are compiled here: the remote
 * interface of x86-64. */
#ifndef LIBUNWIND_CONFIG_H
#define LIBUNWIND_CONFIG_H

#define HAVE_ELF_H 1
#define HAVE_ENDIAN_H 1
#define HAVE_SYS_SYSCALL_H 1
#define HAVE__BUILTIN_UNREACHABLE 1
#define PACKAGE_STRING "libunwind 1.8.1"
#define PACKAGE_BUGREPORT ""

/* Rules that an address space remembers (2048, 420 KB when all are in use). */
#define DWARF_DEFAULT_LOG_UNW_CACHE_SIZE 11

#endif
