/* What the readers of the environment share (config.c and dump_config.c). Context: constructor. */
#ifndef SHIM_CONFIG_READING_H
#define SHIM_CONFIG_READING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "config.h"

/* One sentence of a bad value; what is too much is left out. */
__attribute__((format(printf, 2, 3))) void config_add_fault(struct config *out, const char *format,
                                                            ...);

/* Decimal digits with an optional suffix k, M or G (powers of 1024, either case). */
bool config_parse_number(const char *text, uint64_t limit, uint64_t *value);

/* In place; where it cannot be, that is said of the variable `name`. */
void config_make_absolute(const char *name, char *path, size_t size, struct config *out);

#endif
