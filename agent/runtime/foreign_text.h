/* Text that others wrote (names of threads, functions and files, command lines, what clients sent),
 * as the agent's pages may show it: valid UTF-8 without control characters. Every page takes it
 * through here, mostly by text_sink.h. Context: any; locks: none. */
#ifndef AGENT_FOREIGN_TEXT_H
#define AGENT_FOREIGN_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The length of the valid UTF-8 sequence at text, 0 when there is none (or at the end). */
static inline size_t utf8_sequence(const char *text) {
  const unsigned char *t = (const unsigned char *)text;
  if (t[0] == 0) return 0;
  if (t[0] < 0x80) return 1;
  if (t[0] < 0xc2 || t[0] > 0xf4) return 0;
  size_t length = t[0] < 0xe0 ? 2 : t[0] < 0xf0 ? 3 : 4;
  for (size_t i = 1; i < length; i++) /* stops at a NUL: it is no continuation byte */
    if ((t[i] & 0xc0) != 0x80) return 0;
  if (t[0] == 0xe0 && t[1] < 0xa0) return 0; /* overlong */
  if (t[0] == 0xed && t[1] > 0x9f) return 0; /* surrogates */
  if (t[0] == 0xf0 && t[1] < 0x90) return 0; /* overlong */
  if (t[0] == 0xf4 && t[1] > 0x8f) return 0; /* above U+10FFFF */
  return length;
}

enum foreign_kind {
  FOREIGN_PLAIN, /* may be shown */
  FOREIGN_CONTROL, /* U+0001 to U+001F, U+007F to U+009F: *code says which */
  FOREIGN_INVALID /* a byte that is no UTF-8 */
};

/* What the character at text (which does not end there) is, and how many bytes it has. code may be
 * NULL. */
static inline enum foreign_kind foreign_character(const char *text, size_t *length,
                                                  unsigned *code) {
  const unsigned char *t = (const unsigned char *)text;
  *length = utf8_sequence(text);
  if (*length == 0) {
    *length = 1;
    return FOREIGN_INVALID;
  }
  bool high = *length == 2 && t[0] == 0xc2 && t[1] < 0xa0;
  if (!high && t[0] >= ' ' && t[0] != 0x7f) return FOREIGN_PLAIN;
  if (code) *code = high ? t[1] : t[0];
  return FOREIGN_CONTROL;
}

/* In place: what may not be shown becomes '?', what gets free at the end NUL. */
static inline void foreign_text_clean(char *text) {
  char *to = text;
  for (size_t length; *text; text += length) {
    if (foreign_character(text, &length, NULL) == FOREIGN_PLAIN) {
      memmove(to, text, length);
      to += length;
    } else {
      *to++ = '?';
    }
  }
  while (to < text) *to++ = 0;
}

/* text[0 .. size), which may hold NULs: what may not be shown becomes '?', but for NULs, tabs and
 * line ends. In place; returns the new size. text[size] is NUL, and text[that size] as well. */
static inline size_t foreign_bytes_clean(char *text, size_t size) {
  size_t used = 0;
  for (size_t at = 0, length; at < size; at += length) {
    bool kept = text[at] == 0 || text[at] == '\t' || text[at] == '\n';
    length = 1;
    if (!kept) kept = foreign_character(text + at, &length, NULL) == FOREIGN_PLAIN;
    if (!kept) text[used++] = '?';
    else memmove(text + used, text + at, length);
    if (kept) used += length;
  }
  text[used] = 0;
  return used;
}

/* text[0 .. size), which may hold NULs: what is no UTF-8 becomes '?', all else stays as it is.
 * text[size] is NUL. */
static inline void foreign_bytes_to_utf8(char *text, size_t size) {
  for (size_t at = 0, length; at < size; at += length) {
    length = text[at] ? utf8_sequence(text + at) : 1;
    if (length != 0) continue;
    text[at] = '?';
    length = 1;
  }
}

#endif
