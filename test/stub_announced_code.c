/* A program that announces no code to debuggers. */
#include "agent/symbols/announced_code.h"
#include "agent/symbols/announced_object.h"

void announced_code_update(bool afresh) { (void)afresh; }

void jit_interface_read(struct jit_list *out) { *out = (struct jit_list){.count = 0}; }
void jit_list_release(struct jit_list *list) { (void)list; }

bool announced_object_open(struct announced_object *object, const struct jit_object *at) {
  return (void)object, (void)at, false;
}
void announced_object_close(struct announced_object *object) { (void)object; }
bool announced_object_functions(const struct announced_object *object, uint64_t bytes_max,
                                announced_function_taker *take, void *taker) {
  return (void)object, (void)bytes_max, (void)take, (void)taker, true;
}
