/* What the admin thread (agent.c) has to say of itself, for the index page and health.
 * Context: written by the admin thread, and by the host's where none runs; read by any agent
 * thread, which gets copies of texts that change. */
#ifndef AGENT_STATUS_H
#define AGENT_STATUS_H

#include <stdbool.h>

#include "shared_text.h"

/* "127.0.0.1:6060", "unix:/path", or "". */
const char *agent_status_address(char out[SHARED_TEXT_MAX]);
void agent_status_set_address(const char *text);

/* Why it does not serve, one sentence; "": it does, or has not tried yet. */
const char *agent_status_off(char out[SHARED_TEXT_MAX]);
void agent_status_set_off(const char *text);

/* NULL: it has a descriptor table of its own; else one sentence that says what was done instead. */
const char *agent_status_descriptor_isolation(void);
void agent_status_set_descriptor_isolation(const char *fault);

/* The process's tables began as a copy of its parent's. */
bool agent_status_was_forked(void);
void agent_status_set_was_forked(void);

#endif
