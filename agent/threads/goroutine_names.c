#include "goroutine_names.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "agent/runtime/foreign_text.h"

static const char SLASH[] = "\xe2\x88\x95", PERCENT[] = "\xef\xbc\x85",
                  COLON[] = "\xe2\x88\xb6"; /* U+2215, U+FF05, U+2236 */

/* Both parsers read by lines, of at most 64 KiB in gostackparse. */
enum { NAME_MAX_BYTES = 8 * 1024, PATH_MAX_BYTES = 4 * 1024 };

/* ---- the part of a demangled name that names ---- */

static bool is_identifier(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
         c == '$' || (c & 0x80);
}

static bool starts(const char *text, const char *prefix) {
  return strncmp(text, prefix, strlen(prefix)) == 0;
}

static bool is_operator(const char *name, const char *at) {
  return starts(at, "operator") && !is_identifier(at[8]) && (at == name || !is_identifier(at[-1]));
}

/* Of "operator<<" at `at`, inside template arguments. */
static size_t operator_length(const char *at) {
  static const char *const symbols[] = {
      "<=>", "<<=", ">>=", "->*", "<<", ">>", "<=", ">=", "->", "()", "[]", "<", ">", "(", ")"};
  for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++)
    if (starts(at + 8, symbols[i])) return 8 + strlen(symbols[i]);
  return 8;
}

static const char *without_suffixes(const char *name) {
  const char *clone = strstr(name, " [clone "), *llvm = strstr(name, " (.llvm.");
  const char *end = name + strlen(name);
  if (clone && clone < end) end = clone;
  if (llvm && llvm < end) end = llvm;
  return end;
}

/* Before "(int, long) const"; end where there are no parameters. */
static const char *before_parameters(const char *name, const char *end) {
  static const char *const qualifiers[] = {" const", " volatile", " noexcept", " &&",
                                           " &",     "&&",        "&"};
  const char *close = end;
  for (size_t i = 0; i < sizeof qualifiers / sizeof *qualifiers; i++) {
    size_t length = strlen(qualifiers[i]);
    if ((size_t)(close - name) <= length || memcmp(close - length, qualifiers[i], length) != 0)
      continue;
    close -= length;
    i = (size_t)-1; /* from the start: there may be several */
  }
  if (close == name || close[-1] != ')') return end;
  int depth = 0;
  for (const char *at = close; at > name;) {
    at--;
    depth += (*at == ')') - (*at == '(');
    if (depth > 0) continue;
    if (at == name || starts(at, "(anonymous namespace)")) return end;
    return close - at == 2 && at - name >= 8 && is_operator(name, at - 8) ? end : at;
  }
  return end;
}

/* After "void " or "std::vector<int, std::allocator<int> > "; templates carry their return type. */
static const char *after_return_type(const char *name, const char *end) {
  const char *start = name;
  int depth = 0;
  for (const char *at = name; at < end; at++) {
    if (is_operator(name, at)) {
      if (depth == 0) break; /* the rest is the name: "operator new", "operator unsigned long" */
      at += operator_length(at) - 1;
    } else if (*at == '(' || *at == '[' || *at == '{' || *at == '<') {
      depth++;
    } else if (*at == ')' || *at == ']' || *at == '}' ||
               (*at == '>' && (at == name || at[-1] != '-'))) {
      depth--;
    } else if (*at == ' ' && depth == 0 && at + 1 < end &&
               !(at > name && at[-1] == ')' && !is_identifier(at[1])) && !starts(at, " const::") &&
               !starts(at, " volatile::")) {
      start = at + 1;
    }
  }
  return start;
}

void goroutine_bare_name(const struct symbol_frame *frame, const char **start, const char **end) {
  const char *name = frame->function;
  *start = name;
  *end = name + strlen(name);
  if (!frame->system_name || strcmp(frame->system_name, name) == 0)
    return; /* C, or a JIT's own way of writing */
  const char *cut = before_parameters(name, without_suffixes(name));
  if (cut == name) return;
  *end = cut;
  if (strstr(name, " thunk to ") || strstr(name, " for "))
    return; /* "non-virtual thunk to X::f": these are no types */
  *start = after_return_type(name, cut);
}

/* ---- as the grammars take it ---- */

static bool parentheses_match(const char *at, const char *end) {
  int depth = 0;
  for (; at < end && depth >= 0; at++) depth += (*at == '(') - (*at == ')');
  return depth == 0;
}

/* A space that separates nothing but punctuation goes, another one becomes '_'. */
static const char *joined_space(const char *name, const char *at, const char *end) {
  return at > name && at + 1 < end && is_identifier(at[-1]) && is_identifier(at[1]) ? "_" : "";
}

static void write_name(struct growing_text *out, const char *at, const char *end,
                       enum goroutine_name_form form) {
  size_t length, limit = out->used + NAME_MAX_BYTES;
  while (at < end && (*at == ' ' || foreign_character(at, &length, NULL) == FOREIGN_CONTROL))
    at += *at == ' ' ? 1 : length;
  const char *name = at;
  bool parentheses = parentheses_match(at, end), joined = form == GOROUTINE_NAME_OF_CREATOR;
  if (starts(at, "created by ")) joined = true; /* would be taken for that line */
  int depth = 0;
  for (; at < end && out->used < limit && !out->failed; at += length) {
    if (foreign_character(at, &length, NULL) != FOREIGN_PLAIN) growing_text_text(out, "?");
    else if (*at == '/') growing_text_text(out, SLASH);
    else if (*at == '%') growing_text_text(out, PERCENT);
    else if (*at == ' ' && joined) growing_text_text(out, joined_space(name, at, end));
    else if (*at == '(') growing_text_text(out, parentheses && depth++ == 0 ? "(" : "{");
    else if (*at == ')') growing_text_text(out, parentheses && --depth == 0 ? ")" : "}");
    else growing_text_bytes(out, at, length);
  }
  if (at < end) growing_text_text(out, depth > 0 ? "...)" : "...");
  if (at == name) growing_text_text(out, "?");
}

void goroutine_name_write(struct growing_text *out, const struct symbol_frame *frame,
                          enum goroutine_name_form form) {
  const char *start, *end;
  goroutine_bare_name(frame, &start, &end);
  write_name(out, start, end, form);
}

void goroutine_text_as_name_write(struct growing_text *out, const char *text) {
  write_name(out, text, text + strlen(text), GOROUTINE_NAME_OF_CALL);
}

void goroutine_unknown_name_write(struct growing_text *out, const struct mapping *map,
                                  uint64_t address) {
  char number[32];
  if (map && map->kind != MAPPING_ANONYMOUS) {
    const char *slash = strrchr(map->path, '/'), *file = slash ? slash + 1 : map->path;
    write_name(out, file, file + strlen(file), GOROUTINE_NAME_OF_CREATOR);
    growing_text_text(out, "+");
    address -= map->bias;
  }
  snprintf(number, sizeof number, "0x%" PRIx64, address);
  growing_text_text(out, number);
}

static bool ends_as_go_expects(const char *path) {
  size_t length = strlen(path);
  return (length > 2 &&
          (strcmp(path + length - 2, ".c") == 0 || strcmp(path + length - 2, ".s") == 0)) ||
         (length > 3 && strcmp(path + length - 3, ".go") == 0);
}

void goroutine_source_write(struct growing_text *out, const char *filename, uint32_t line) {
  char number[16];
  if (!filename || !*filename) {
    growing_text_text(out, "??:0");
    return;
  }
  size_t length = strlen(filename);
  const char *at = filename;
  if (length > PATH_MAX_BYTES) {
    growing_text_text(out, "...");
    at += length - PATH_MAX_BYTES;
  }
  for (; *at; at += length) {
    if (foreign_character(at, &length, NULL) != FOREIGN_PLAIN) growing_text_text(out, "?");
    else if (*at == ':') growing_text_text(out, COLON);
    else growing_text_bytes(out, at, length);
  }
  snprintf(number, sizeof number, ":%" PRIu32, line);
  growing_text_text(out, number);
  if (ends_as_go_expects(filename)) return;
  growing_text_text(out, " .c");
  growing_text_text(out, number);
}

/* ---- libraries that start threads ---- */

static bool is_library_path(const char *at) {
  static const char *const prefixes[] = {
      "std::",         "core::",          "alloc::",        "__gnu_cxx::",
      "boost::thread", "boost::detail::", "g_thread_",      "g_system_thread_",
      "uv_thread_",    "QThread::",       "pthread_create", "thrd_create"};
  for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
    if (starts(at, prefixes[i])) return true;
  return false;
}

bool goroutine_is_thread_library(const struct symbol_frame *frame) {
  const char *start, *end;
  if (!frame->function) return false;
  goroutine_bare_name(frame, &start, &end);
  if (*start != '<') return is_library_path(start);
  /* Rust: "<std::X as core::Y>::f" is the library's, "<std::X as program::Y>::f" is not. */
  const char *trait = strstr(start, " as ");
  start++;
  if (!is_library_path(start)) return false;
  return !trait || trait > end || is_library_path(trait + 4);
}
