/* PPROFAGENT_CHILDREN=fork or none: what this process executes shall run without the agent. So that
 * every way to exec sees it (execve with environ, posix_spawn, a shell's own copy, ...), our entry
 * is cut out of the variable where it lies, before the program can read it. Context: constructor;
 * no malloc. Locks: none. */
#ifndef SHIM_PRELOAD_VARIABLE_H
#define SHIM_PRELOAD_VARIABLE_H

/* The path by which the loader found this library, as in LD_PRELOAD or below a directory of the
 * library path. "": not known. */
const char *preload_variable_own_path(void);

/* Every entry of LD_PRELOAD with the basename of `library` goes, and one separator with it; all
 * others stay byte for byte. A variable of which nothing is left goes as a whole. environment:
 * NULL-terminated; its strings and pointers are edited in place. */
void preload_variable_remove(char **environment, const char *library);

#endif
