/* The functions of libc that this library calls, bound to libc's own definitions whatever the
 * program, its libraries and other preloads define.
 *
 * For each of them the library has a hidden function of that very name: the linker binds every call
 * to it, also those of third-party code and of the compiler. It jumps to libc's definition, which
 * it looks up at its first call. The loader has nothing to bind at an exec. Context: any, once the
 * loader has relocated this library, also signal handlers; locks: none; memory reads and one word
 * written.
 */
#ifndef SHIM_LIBC_BINDING_H
#define SHIM_LIBC_BINDING_H

#include <stdint.h>

/* The address of the function with this number in the generated list. */
uintptr_t libc_binding_find(uint32_t number) __attribute__((visibility("hidden")));

#endif
