#include "string_table.h"

#include <string.h>

#include "agent_memory.h"
#include "growing_array.h"

static bool is_utf8(const char *text) {
  for (size_t length; *text; text += length)
    if ((length = utf8_sequence(text)) == 0) return false;
  return true;
}

static char *sanitised(struct string_table *table, const char *text) {
  char *copy = agent_strdup(text),
       **copies = agent_realloc(table->copies, (table->copy_count + 1) * sizeof *copies);
  if (copies) table->copies = copies;
  if (!copy || !copies) {
    agent_free(copy);
    return NULL;
  }
  copies[table->copy_count++] = copy;
  foreign_bytes_to_utf8(copy, strlen(copy));
  return copy;
}

struct string_key {
  char *const *items;
  const char *text;
};

static bool string_equal(const void *context, uint32_t position) {
  const struct string_key *key = context;
  return key->items[position] == key->text || strcmp(key->items[position], key->text) == 0;
}

bool string_table_start(struct string_table *table) {
  *table = (struct string_table){0};
  string_table_number(table, "");
  return !table->failed;
}

int64_t string_table_number(struct string_table *table, const char *text) {
  if (!text) text = "";
  if (!is_utf8(text) && !(text = sanitised(table, text))) {
    table->failed = true;
    return 0;
  }
  struct string_key key = {table->items, text};
  uint64_t hash = hash_bytes(text, strlen(text));
  uint32_t found = index_table_find(&table->index, hash, string_equal, &key);
  if (found != INDEX_TABLE_NONE) return found;
  if (!growing_array_reserve(&table->items, table->count, &table->capacity, sizeof *table->items) ||
      !index_table_add(&table->index, hash, table->count)) {
    table->failed = true;
    return 0;
  }
  table->items[table->count] = (char *)text;
  return table->count++;
}

void string_table_release(struct string_table *table) {
  index_table_release(&table->index);
  for (uint32_t i = 0; i < table->copy_count; i++) agent_free(table->copies[i]);
  agent_free(table->copies);
  agent_free(table->items);
}
