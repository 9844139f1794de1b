/* Names and places of native code as parsers of Go's goroutine dumps take them. Two grammars are in
 * use, gostackparse's and panicparse's; what is written here is read whole by both. Context: agent
 * threads; locks: none.
 *
 * Names lose their parameters and return type. What a grammar would stumble over is replaced by a
 * character that looks like it: parentheses in parentheses by braces, '/' and '%' in names and ':'
 * in paths by their Unicode relatives.
 */
#ifndef AGENT_GOROUTINE_NAMES_H
#define AGENT_GOROUTINE_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "agent/runtime/growing_text.h"
#include "agent/symbols/mappings.h"
#include "agent/symbols/symbolizer.h"

enum goroutine_name_form {
  GOROUTINE_NAME_OF_CALL, /* before "(...)" */
  GOROUTINE_NAME_OF_CREATOR /* after "created by ": gostackparse ends it at the first space */
};

void goroutine_name_write(struct growing_text *out, const struct symbol_frame *frame,
                          enum goroutine_name_form form);

/* Where no function is known: the object's file name and the address that addr2line would take, or
 * the plain address. */
void goroutine_unknown_name_write(struct growing_text *out, const struct mapping *map,
                                  uint64_t address);

/* Any text in the place of a name. */
void goroutine_text_as_name_write(struct growing_text *out, const char *text);

/* "/src/worker.c:57"; "??:0" for NULL. panicparse wants the suffix of a Go, C or assembly file:
 * after another one it gets " .c:57", which gostackparse, done with the line at the space, does not
 * see. */
void goroutine_source_write(struct growing_text *out, const char *filename, uint32_t line);

/* The part of a name that says which function it is, without return type and parameters: [*start,
 * *end) of frame->function. */
void goroutine_bare_name(const struct symbol_frame *frame, const char **start, const char **end);

/* The function belongs to a library's way of starting threads (std::thread, Rust's std, GLib, ...),
 * not to the program. */
bool goroutine_is_thread_library(const struct symbol_frame *frame);

#endif
