/* What the index page says of how allocations, waits and locks are sampled, and the form that
 * changes it (rates.h). Context: HTTP workers; locks: none. */
#ifndef AGENT_INDEX_SAMPLING_H
#define AGENT_INDEX_SAMPLING_H

#include "agent/http/text_sink.h"

void index_sampling_write(struct text_sink *text);

#endif
