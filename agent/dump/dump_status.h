/* What has become of the profiles that are written to files, for the index page and health.
 * Context: written by the thread that writes them; read by any agent thread. */
#ifndef AGENT_DUMP_STATUS_H
#define AGENT_DUMP_STATUS_H

#include <stdint.h>

#include "agent/runtime/shared_text.h"

/* Since the start of this process. */
uint64_t dump_status_written(void);
uint64_t dump_status_failed(void);
/* A path and a sentence, "": none yet. */
const char *dump_status_last_file(char out[SHARED_TEXT_MAX]);
const char *dump_status_last_error(char out[SHARED_TEXT_MAX]);

void dump_status_wrote(const char *path);
/* Logged, too. */
__attribute__((format(printf, 1, 2))) void dump_status_failed_for(const char *format, ...);

#endif
