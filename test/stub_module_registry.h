/* A module registry that a test fills by hand, in place of shim/stacks/module_registry.c. */
#ifndef TEST_STUB_MODULE_REGISTRY_H
#define TEST_STUB_MODULE_REGISTRY_H

#include "shim/stacks/module_registry.h"

/* Adds an entry; false when there is no room. */
bool stub_module_registry_add(const struct module_view *module);

#endif
