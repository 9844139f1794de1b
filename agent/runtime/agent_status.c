#include "agent_status.h"

#include <stddef.h>

static struct shared_text listens, off;
static const char *isolation_fault;
static bool was_forked;

const char *agent_status_address(char out[SHARED_TEXT_MAX]) {
  return shared_text_read(&listens, out);
}
void agent_status_set_address(const char *text) { shared_text_write(&listens, text); }

const char *agent_status_off(char out[SHARED_TEXT_MAX]) { return shared_text_read(&off, out); }
void agent_status_set_off(const char *text) { shared_text_write(&off, text); }

const char *agent_status_descriptor_isolation(void) { return isolation_fault; }
void agent_status_set_descriptor_isolation(const char *fault) { isolation_fault = fault; }

bool agent_status_was_forked(void) { return was_forked; }
void agent_status_set_was_forked(void) { was_forked = true; }
