/* links: test/agent_memory_libc.c */
/* Foreign bytes in every form that pages give them: valid UTF-8, no control characters, nothing
 * that ends a line, a tag or a JSON string. The oracle decodes by the table of the Unicode standard
 * (3-7), not by the agent's code. */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "agent/runtime/foreign_text.h"
#include "agent/threads/goroutine_names.h"
#include "agent/runtime/string_table.h"
#include "agent/http/text_sink.h"

static int failures;

/* The well-formed sequences, as ranges of their first four bytes; 0: none. */
static const uint8_t well_formed[][8] = {{0x00, 0x7f},
                                         {0xc2, 0xdf, 0x80, 0xbf},
                                         {0xe0, 0xe0, 0xa0, 0xbf, 0x80, 0xbf},
                                         {0xe1, 0xec, 0x80, 0xbf, 0x80, 0xbf},
                                         {0xed, 0xed, 0x80, 0x9f, 0x80, 0xbf},
                                         {0xee, 0xef, 0x80, 0xbf, 0x80, 0xbf},
                                         {0xf0, 0xf0, 0x90, 0xbf, 0x80, 0xbf, 0x80, 0xbf},
                                         {0xf1, 0xf3, 0x80, 0xbf, 0x80, 0xbf, 0x80, 0xbf},
                                         {0xf4, 0xf4, 0x80, 0x8f, 0x80, 0xbf, 0x80, 0xbf}};

/* The bytes of the sequence at text and its code point; 0: not well-formed. */
static size_t decode(const uint8_t *text, size_t size, uint32_t *code) {
  static const uint8_t masks[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
  for (size_t row = 0; row < sizeof well_formed / sizeof *well_formed; row++) {
    size_t length = 1;
    while (length < 4 && well_formed[row][2 * length + 1]) length++;
    bool fits = length <= size;
    for (size_t i = 0; fits && i < length; i++)
      fits = text[i] >= well_formed[row][2 * i] && text[i] <= well_formed[row][2 * i + 1];
    if (!fits) continue;
    *code = text[0] & masks[length];
    for (size_t i = 1; i < length; i++) *code = *code << 6 | (text[i] & 0x3f);
    return length;
  }
  return 0;
}

static void check_clean(const char *what, const void *bytes, size_t size, bool controls_allowed) {
  const uint8_t *text = bytes;
  uint32_t code;
  for (size_t at = 0, length; at < size; at += length) {
    length = decode(text + at, size - at, &code);
    bool control = length > 0 && (code < 0x20 || (code >= 0x7f && code <= 0x9f));
    if (length > 0 && (controls_allowed || !control)) continue;
    printf("%s: byte %zu is 0x%02x\n", what, at, text[at]);
    failures++;
    return;
  }
}

struct memory {
  struct byte_sink base;
  char bytes[8192];
  size_t used;
};

static bool keep(struct byte_sink *base, const void *bytes, size_t size) {
  struct memory *memory = (struct memory *)base;
  memcpy(memory->bytes + memory->used, bytes, size);
  memory->used += size;
  return true;
}

enum form { ONE_LINE, HTML, JSON };

static size_t written(enum form form, const char *text, struct memory *memory) {
  static struct text_sink sink;
  *memory = (struct memory){.base = {keep}};
  text_sink_start(&sink, &memory->base);
  size_t width = 0;
  if (form == ONE_LINE) width = text_sink_one_line(&sink, text);
  else if (form == HTML) text_sink_html(&sink, text);
  else text_sink_json(&sink, text);
  text_sink_end(&sink);
  memory->bytes[memory->used] = 0;
  return width;
}

/* One JSON string and nothing else. */
static void check_json(const struct memory *memory) {
  const char *at = memory->bytes + 1, *end = memory->bytes + memory->used - 1;
  if (memory->used < 2 || memory->bytes[0] != '"' || *end != '"')
    failures++, printf("JSON: no quotes\n");
  for (; at < end; at++) {
    if (*at == '"') failures++, printf("JSON: a quote inside\n");
    if (*at != '\\') continue;
    at++;
    bool escape = *at == '"' || *at == '\\' ||
                  (*at == 'u' && end - at > 4 && strspn(at + 1, "0123456789abcdef") >= 4);
    if (!escape) failures++, printf("JSON: a bad escape\n");
  }
}

static void check_names(const char *text) {
  struct symbol_frame frame = {.function = text, .system_name = text, .filename = text};
  struct growing_text out = {0};
  goroutine_name_write(&out, &frame, GOROUTINE_NAME_OF_CALL);
  goroutine_name_write(&out, &frame, GOROUTINE_NAME_OF_CREATOR);
  goroutine_source_write(&out, text, 7);
  goroutine_text_as_name_write(&out, text);
  check_clean("goroutine names", out.bytes, out.used, false);
  growing_text_release(&out);
}

static void check_all(const char *bytes, size_t size) {
  struct memory memory;
  char *text = malloc(size + 1),
       *copy = malloc(size + 1); /* exactly sized, for the address sanitizer */
  memcpy(text, bytes, size);
  text[size] = 0;
  memcpy(copy, text, size + 1);
  size_t width = written(ONE_LINE, text, &memory), characters = 0;
  check_clean("one line", memory.bytes, memory.used, false);
  for (size_t i = 0; i < memory.used; i++) characters += ((uint8_t)memory.bytes[i] & 0xc0) != 0x80;
  if (width != characters)
    failures++, printf("one line: width %zu of %zu characters\n", width, characters);
  foreign_text_clean(copy);
  if (strcmp(copy, memory.bytes) != 0) failures++, printf("in place: not as on one line\n");
  written(HTML, text, &memory);
  check_clean("HTML", memory.bytes, memory.used, false);
  if (strpbrk(memory.bytes, "<>\"'")) failures++, printf("HTML: %s\n", memory.bytes);
  written(JSON, text, &memory);
  check_clean("JSON", memory.bytes, memory.used, false);
  check_json(&memory);
  struct string_table strings;
  if (string_table_start(&strings)) {
    int64_t number = string_table_number(&strings, text);
    check_clean("proto", strings.items[number], strlen(strings.items[number]), true);
  }
  string_table_release(&strings);
  memcpy(copy, bytes, size);
  copy[size] = 0;
  foreign_bytes_to_utf8(copy, size);
  check_clean("UTF-8", copy, size, true);
  for (size_t i = 0; i < size; i++)
    if (copy[i] != bytes[i] && copy[i] != '?')
      failures++, printf("UTF-8: byte %zu was changed\n", i);
  memcpy(copy, bytes, size);
  size_t shown = foreign_bytes_clean(copy, size);
  for (size_t i = 0; i < shown; i++)
    if (copy[i] == 0 || copy[i] == '\n' || copy[i] == '\t') copy[i] = ' ';
  check_clean("command line", copy, shown, false);
  check_names(text);
  free(text);
  free(copy);
}

static void check_table(void) {
  static const struct {
    const char *text, *one_line, *html, *json;
  } cases[] = {{"a\nb\tc\x1b[31m\x7f", "a?b?c?[31m?", "a?b?c?[31m?",
                "\"a\\u000ab\\u0009c\\u001b[31m\\u007f\""},
               {"\xc2\x80x\xc2\x9fy\xc2\xa0", "?x?y\xc2\xa0", "?x?y\xc2\xa0",
                "\"\\u0080x\\u009fy\xc2\xa0\""},
               {"\xff\xc3\xa9\xc3", "?\xc3\xa9?", "?\xc3\xa9?", "\"\\ufffd\xc3\xa9\\ufffd\""},
               {"\xed\xa0\x80\xf0\x9f\x98\x80\xc0\xaf", "???\xf0\x9f\x98\x80??",
                "???\xf0\x9f\x98\x80??", "\"\\ufffd\\ufffd\\ufffd\xf0\x9f\x98\x80\\ufffd\\ufffd\""},
               {"<&'\">\\", "<&'\">\\", "&lt;&amp;&#39;&#34;&gt;\\", "\"<&'\\\">\\\\\""},
               {"", "", "", "\"\""}};
  struct memory memory;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    written(ONE_LINE, cases[i].text, &memory);
    if (strcmp(memory.bytes, cases[i].one_line) != 0)
      failures++, printf("case %zu: %s\n", i, memory.bytes);
    written(HTML, cases[i].text, &memory);
    if (strcmp(memory.bytes, cases[i].html) != 0)
      failures++, printf("case %zu: %s\n", i, memory.bytes);
    written(JSON, cases[i].text, &memory);
    if (strcmp(memory.bytes, cases[i].json) != 0)
      failures++, printf("case %zu: %s\n", i, memory.bytes);
    check_all(cases[i].text, strlen(cases[i].text));
  }
}

static uint64_t random_state = 88172645463325252u;
static unsigned random_below(unsigned limit) {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (unsigned)(random_state >> 33) % limit;
}

int main(void) {
  static const char *const pieces[] = {"\xc2",
                                       "\x80",
                                       "\x9f",
                                       "\xe2\x80\xa8",
                                       "\xed\xa0",
                                       "\xf4\x90",
                                       "\xf0\x9f\x98\x80",
                                       "\xc3\xa9",
                                       "\n",
                                       "]",
                                       ",",
                                       " ",
                                       "\x1b[",
                                       "<",
                                       "\"",
                                       "\\",
                                       "goroutine 1 [running]:\n",
                                       "(",
                                       ")",
                                       "::",
                                       "\x7f",
                                       "\r"};
  check_table();
  for (int first = 1; first < 256; first++)
    for (int second = 0; second < 256; second++)
      check_all((char[]){(char)first, (char)second, 'x'}, 3);
  for (int round = 0; round < 100000 && failures < 10; round++) {
    char text[160];
    size_t size = 0;
    for (unsigned left = random_below(8); left > 0; left--) {
      if (random_below(2)) {
        text[size++] = (char)random_below(256);
      } else {
        const char *piece = pieces[random_below(sizeof pieces / sizeof *pieces)];
        memcpy(text + size, piece, strlen(piece));
        size += strlen(piece);
      }
    }
    check_all(text, size);
  }
  return failures != 0;
}
