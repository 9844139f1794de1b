/* /debug/pprof/symbol: names for "0xA+0xB". Context: agent threads. */
#ifndef AGENT_SYMBOL_LOOKUP_H
#define AGENT_SYMBOL_LOOKUP_H

#include <stdbool.h>
#include <stddef.h>

#include "agent/http/byte_sink.h"

/* Answers addresses[0 .. size) with "num_symbols: 1" and a line for each address that has a name:
 * the innermost function, as Go gives. False: out of memory, or the receiver is gone. */
bool symbol_lookup(const char *addresses, size_t size, struct byte_sink *sink);

#endif
