/* The string table of a profile.proto: texts to sequential numbers, 0 = "". Texts that are not
 * valid UTF-8 (proto3 refuses them) are stored with '?' for each offending byte. Context: agent
 * threads; locks: none (one owner). */
#ifndef AGENT_STRING_TABLE_H
#define AGENT_STRING_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "foreign_text.h"
#include "index_table.h"

struct string_table {
  struct index_table index;
  char **items; /* pointers to the callers' own texts, or into copies */
  uint32_t count, capacity;
  char **copies; /* the sanitised ones, to be freed */
  uint32_t copy_count;
  bool failed; /* out of memory once: numbers given since then mean nothing */
};

bool string_table_start(struct string_table *table);
/* text (NULL counts as "") must outlive the table. */
int64_t string_table_number(struct string_table *table, const char *text);
void string_table_release(struct string_table *table);

#endif
