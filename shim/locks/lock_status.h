/* Whether the block and mutex profiles are on, and why not; what they hold. Context: any. */
#ifndef SHIM_LOCK_STATUS_H
#define SHIM_LOCK_STATUS_H

#include <stdint.h>

/* NULL when that profile is on, else one sentence for the index page and /debug/pprof/health. */
const char *block_off_reason(void);
const char *mutex_off_reason(void);

/* Threads that wait now and whose releasers are being looked for (a sample of those that wait);
 * places for them that have ever been used; memory taken for them. */
uint32_t lock_waiters_now(void);
uint32_t lock_waiters_places(void);
uint64_t lock_waiters_bytes(void);

#endif
