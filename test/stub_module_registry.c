#include "stub_module_registry.h"

enum { STUB_MODULES = 16 };
static struct module_view modules[STUB_MODULES];
static uint32_t module_count;

bool stub_module_registry_add(const struct module_view *module) {
  if (module_count == STUB_MODULES) return false;
  modules[module_count++] = *module;
  return true;
}

uint32_t module_registry_count(void) { return module_count; }
bool module_registry_read(uint32_t index, struct module_view *out) {
  if (index == 0 || index > module_count) return false;
  *out = modules[index - 1];
  return true;
}
uint32_t module_registry_epoch_of(const uint64_t *frames, uint32_t frame_count) {
  return (void)frames, (void)frame_count, 1;
}
uint64_t module_registry_bytes(void) { return 0; }
void module_registry_note(const struct dl_find_object *found) { (void)found; }
void module_registry_check_unloaded(void) {}
