/* What each fork runs: the linker puts it next to what each start runs, because a child has to map
 * every page of code anew. */
#ifndef SHIM_AT_FORK_H
#define SHIM_AT_FORK_H

#define AT_FORK __attribute__((hot))
/* The same for what each start runs, where the rest of its file is not. */
#define AT_START __attribute__((hot))

#endif
