/* What the pages for people have in common: head, style, and numbers as people read them.
 * Context: the HTTP workers; locks: none. */
#ifndef AGENT_HTML_PAGE_H
#define AGENT_HTML_PAGE_H

#include <stdint.h>

#include "agent/http/text_sink.h"

/* Headers of every page: nothing from elsewhere; no scripts, or those of this origin. */
#define HTML_PAGE_HEADERS "Content-Security-Policy: " HTML_PAGE_POLICY "\r\n"
#define HTML_PAGE_HEADERS_WITH_SCRIPT \
  "Content-Security-Policy: " HTML_PAGE_POLICY "; script-src 'self'; connect-src 'self'\r\n"
#define HTML_PAGE_POLICY                                                                 \
  "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; " \
  "frame-ancestors 'none'"

/* Up to the title's text, which the caller writes; then up to the body; the end of the page.
 * own_style: of this page, after the common one. */
void html_page_begin(struct text_sink *text);
void html_page_body(struct text_sink *text, const char *own_style);
void html_page_end(struct text_sink *text);

void html_bytes(struct text_sink *text, uint64_t bytes); /* 1.5 MiB */
void html_count(struct text_sink *text, uint64_t value); /* 1,234,567 */
void html_duration(struct text_sink *text, uint64_t seconds); /* 2 h 5 min */

#endif
