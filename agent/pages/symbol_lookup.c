#include "symbol_lookup.h"

#include <string.h>

#include "agent/runtime/agent_memory.h"
#include "agent/http/query.h"
#include "agent/http/text_sink.h"
#include "agent/symbols/mappings.h"
#include "agent/symbols/symbolizer.h"

static void answer(struct text_sink *text, struct mappings *mappings,
                   struct symbolizer_session *session, uint64_t address) {
  const struct mapping *map = mappings_find(mappings, address, UINT32_MAX);
  const struct symbol_location *symbol = symbolizer_resolve(session, map, address);
  if (symbol->frame_count == 0 || !symbol->frames[0].function) return;
  text_sink_hex(text, address);
  text_sink_text(text, " ");
  text_sink_one_line(text, symbol->frames[0].function);
  text_sink_text(text, "\n");
}

bool symbol_lookup(const char *addresses, size_t size, struct byte_sink *sink) {
  struct text_sink *text = agent_malloc(sizeof *text);
  struct mappings *mappings = NULL;
  struct symbolizer_session *session = NULL;
  bool ok = text != NULL;
  if (text) {
    text_sink_start(text, sink);
    text_sink_text(text, "num_symbols: 1\n");
    for (size_t at = 0; at <= size && !text->failed;) {
      const char *plus = memchr(addresses + at, '+', size - at);
      size_t length = plus ? (size_t)(plus - addresses) - at : size - at;
      uint64_t address = 0;
      if (parse_address(addresses + at, length, &address) && address != 0) {
        if (!session) { /* a request without addresses costs nothing */
          mappings = mappings_collect();
          session = mappings ? symbolizer_open() : NULL;
          ok = session != NULL;
          if (!ok) break;
        }
        answer(text, mappings, session, address);
        ok = !symbolizer_given_up(session);
        if (!ok) break;
      }
      at += length + 1;
    }
    ok = ok && text_sink_end(text);
  }
  if (session) symbolizer_close(session);
  if (mappings) mappings_release(mappings);
  agent_free(text);
  return ok;
}
