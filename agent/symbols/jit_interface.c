#include "jit_interface.h"

#include <elf.h>
#include <link.h>
#include <stdbool.h>
#include <string.h>

#include "shim/next/loaded_objects.h"
#include "shim/stacks/unwind_rule.h"
#include "agent/runtime/agent_lock.h"
#include "agent/runtime/agent_memory.h"
#include "memory_image.h"
#include "agent/runtime/own_memory.h"

static const char DESCRIPTOR[] = "__jit_debug_descriptor";

/* ---- a symbol of a loaded object, which may be unloaded meanwhile ---- */

struct tables {
  uint64_t symbols, strings, hash;
};

static bool find_tables(uint64_t dynamic, struct tables *out) {
  enum { AT_ONCE = 64 };
  Elf64_Dyn entries[AT_ONCE];
  ssize_t got = own_memory_read(dynamic, entries, sizeof entries);
  memset(out, 0, sizeof *out);
  for (ssize_t i = 0; (i + 1) * (ssize_t)sizeof *entries <= got; i++) {
    uint64_t address = entries[i].d_un.d_ptr;
    switch (entries[i].d_tag) {
      case DT_SYMTAB: out->symbols = address; break;
      case DT_STRTAB: out->strings = address; break;
      case DT_GNU_HASH: out->hash = address; break;
      case DT_NULL: return out->symbols && out->strings && out->hash;
      default: break;
    }
  }
  return false;
}

static uint32_t gnu_hash(const char *name) {
  enum { START = 5381, FACTOR = 33 };
  uint32_t hash = START;
  for (; *name; name++) hash = hash * FACTOR + (uint8_t)*name;
  return hash;
}

/* Its address, of that symbol if it has the name; or 0. */
static uint64_t value_of(const struct tables *tables, uint32_t index, uint64_t bias) {
  Elf64_Sym symbol;
  char name[sizeof DESCRIPTOR];
  if (!memory_image_read(tables->symbols + index * sizeof symbol, &symbol, sizeof symbol) ||
      symbol.st_shndx == SHN_UNDEF || ELF64_ST_TYPE(symbol.st_info) != STT_OBJECT ||
      !memory_image_read(tables->strings + symbol.st_name, name, sizeof name) ||
      memcmp(name, DESCRIPTOR, sizeof name) != 0)
    return 0;
  return bias + symbol.st_value;
}

enum { CHAIN_MAX = 10000 };

static uint64_t find_descriptor(uint64_t dynamic, uint64_t bias) {
  struct {
    uint32_t buckets, first_symbol, bloom_words, bloom_shift;
  } header;
  struct tables tables;
  uint32_t hash = gnu_hash(DESCRIPTOR), index, link;
  uint64_t bloom;
  if (!find_tables(dynamic, &tables) || !memory_image_read(tables.hash, &header, sizeof header) ||
      !header.buckets || !header.bloom_words)
    return 0;
  uint64_t words = tables.hash + sizeof header;
  uint64_t word = words + hash / 64 % header.bloom_words * sizeof bloom;
  if (!memory_image_read(word, &bloom, sizeof bloom) || !(bloom >> hash % 64 & 1) ||
      !(bloom >> (hash >> header.bloom_shift % 32) % 64 & 1))
    return 0;
  uint64_t buckets = words + (uint64_t)header.bloom_words * sizeof bloom;
  if (!memory_image_read(buckets + hash % header.buckets * sizeof index, &index, sizeof index) ||
      index < header.first_symbol)
    return 0;
  uint64_t links = buckets + (uint64_t)header.buckets * sizeof link;
  for (int left = CHAIN_MAX; left > 0; left--, index++) {
    uint64_t at = links + (uint64_t)(index - header.first_symbol) * sizeof link;
    if (!memory_image_read(at, &link, sizeof link)) return 0;
    uint64_t found = (link ^ hash) >> 1 == 0 ? value_of(&tables, index, bias) : 0;
    if (found || link & 1) return found;
  }
  return 0;
}

/* ---- the objects, each looked at once ---- */

enum { OBJECTS_MAX = 2048 };
static struct agent_lock lock;
/* Under the lock. */
static struct { uint64_t dynamic, descriptor; /* 0: it has none */ } known[OBJECTS_MAX];
static unsigned known_count;
static uint64_t generation; /* unwind_rule_generation: what was unloaded may be another one now */

static uint64_t descriptor_of(const struct link_map *map) {
  uint64_t dynamic = (uintptr_t)map->l_ld;
  for (unsigned i = 0; i < known_count; i++)
    if (known[i].dynamic == dynamic) return known[i].descriptor;
  uint64_t found = find_descriptor(dynamic, map->l_addr);
  if (known_count < OBJECTS_MAX) {
    known[known_count].dynamic = dynamic;
    known[known_count++].descriptor = found;
  }
  return found;
}

static bool append(struct jit_list *list, const struct jit_object *object) {
  if (list->count == list->capacity) {
    size_t wanted = list->capacity * 2 + 64;
    struct jit_object *larger = agent_realloc(list->objects, wanted * sizeof *larger);
    if (!larger) return false;
    list->objects = larger;
    list->capacity = wanted;
  }
  list->objects[list->count++] = *object;
  return true;
}

/* The list may change meanwhile, or lead round in a circle. */
static void read_list(struct jit_list *list, uint64_t descriptor) {
  enum { VERSION = 1 };
  struct {
    uint32_t version, action;
    uint64_t relevant, first;
  } head;
  struct {
    uint64_t next, previous, address, size;
  } entry;
  struct announcement_head *kept = &list->heads[list->head_count];
  _Static_assert(sizeof head == sizeof kept->words, "all of it");
  if (list->head_count == ANNOUNCEMENT_LISTS_MAX ||
      !memory_image_read(descriptor, &head, sizeof head) || head.version != VERSION)
    return;
  kept->address = descriptor;
  memcpy(kept->words, &head, sizeof head);
  list->head_count++;
  for (uint64_t at = head.first; at && list->count < JIT_OBJECTS_MAX; at = entry.next) {
    if (!memory_image_read(at, &entry, sizeof entry)) return;
    struct jit_object object = {at, entry.address, entry.size};
    if (entry.address && !append(list, &object)) return;
  }
}

void jit_interface_read(struct jit_list *out) {
  struct link_map map;
  memset(out, 0, sizeof *out);
  agent_lock_take(&lock);
  uint64_t now = unwind_rule_generation();
  if (now != generation) known_count = 0;
  generation = now;
  uint64_t at = (uintptr_t)loaded_objects_first();
  for (unsigned i = 0; at && i < OBJECTS_MAX; i++, at = (uintptr_t)map.l_next) {
    if (!memory_image_read(at, &map, sizeof map)) break;
    uint64_t descriptor = map.l_ld ? descriptor_of(&map) : 0;
    if (descriptor && descriptor % sizeof descriptor == 0) read_list(out, descriptor);
  }
  agent_lock_release(&lock);
}

void jit_list_release(struct jit_list *list) {
  agent_free(list->objects);
  list->objects = NULL;
}
