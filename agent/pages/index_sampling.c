#include "index_sampling.h"

#include <inttypes.h>

#include "shim/allocation/heap_status.h"
#include "shim/base/config.h"
#include "shim/locks/lock_status.h"
#include "html_page.h"

static void write_nanoseconds(struct text_sink *text, uint64_t nanoseconds) {
  static const char units[][10] = {"ns", "&micro;s", "ms", "s"};
  unsigned unit = 0;
  for (; unit < 3 && nanoseconds % 1000 == 0; unit++)
    nanoseconds /= 1000; /* only as far as it is exact */
  html_count(text, nanoseconds);
  text_sink_format(text, " %s", units[unit]);
}

static void write_heap_sampling(struct text_sink *text) {
  text_sink_text(text, "heap: ");
  uint64_t rate = config_rate(&config.memprofile_rate);
  if (rate == 0 || heap_off_reason()) return text_sink_text(text, "off");
  if (rate == 1) return text_sink_text(text, "every allocation");
  text_sink_text(text, "one allocation per ");
  html_bytes(text, rate);
  text_sink_text(text, " on average");
}

static void write_block_sampling(struct text_sink *text) {
  text_sink_text(text, "block: ");
  uint64_t rate = config_rate(&config.blockprofile_rate);
  if (rate == 0 || block_off_reason()) return text_sink_text(text, "off");
  if (rate == 1) return text_sink_text(text, "every wait");
  text_sink_text(text, "every wait of ");
  write_nanoseconds(text, rate);
  text_sink_text(text, " or more, one per that much of the shorter ones on average");
}

static void write_mutex_sampling(struct text_sink *text) {
  text_sink_text(text, "mutex: ");
  uint64_t fraction = config_rate(&config.mutexprofile_fraction);
  if (fraction == 0 || mutex_off_reason()) return text_sink_text(text, "off");
  if (fraction == 1) return text_sink_text(text, "every wait for a lock");
  text_sink_text(text, "one in ");
  html_count(text, fraction);
  text_sink_text(text, " waits for a lock on average");
}

static void write_field(struct text_sink *text, const char *label, const char *name, uint64_t rate,
                        const char *unit) {
  text_sink_format(text,
                   "<label>%s <input name=%s value=\"%" PRIu64
                   "\" spellcheck=false autocomplete=off> %s</label>\n",
                   label, name, rate, unit);
}

/* assets/index.js shows and sends it. */
static void write_form(struct text_sink *text) {
  text_sink_text(text,
                 "</dd>\n<dd id=rates class=rates hidden><details><summary>Change</summary>"
                 "<form>\n");
  write_field(text, "heap: one in", "memprofilerate", config_rate(&config.memprofile_rate),
              "bytes");
  write_field(text, "block:", "block", config_rate(&config.blockprofile_rate), "ns");
  write_field(text, "mutex: one in", "mutex", config_rate(&config.mutexprofile_fraction), "waits");
  text_sink_text(text,
                 "<button>Set</button> <output class=dim>1: every one, which costs more; 0: off. "
                 "A thread takes a new heap rate up within 256 KiB of its allocations; what was "
                 "sampled keeps its own.</output>\n</form></details>");
}

void index_sampling_write(struct text_sink *text) {
  write_heap_sampling(text);
  text_sink_text(text, "\n");
  write_block_sampling(text);
  text_sink_text(text, "\n");
  write_mutex_sampling(text);
  write_form(text);
}
