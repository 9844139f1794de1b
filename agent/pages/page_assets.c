#include "page_assets.h"

#include <stdio.h>
#include <string.h>

#include "agent/http/response.h"
#include "page_assets_list.h"

/* Read when somebody asks, and by nothing before: no relocation points at them. */
#define X(symbol, name, type, file)                                               \
  extern const char asset_##symbol[] __attribute__((visibility("hidden")));       \
  extern const char asset_##symbol##_end[] __attribute__((visibility("hidden"))); \
  __asm__(                                                                        \
      ".pushsection .rodata.page_assets, \"a\", @progbits\n"                      \
      ".hidden asset_" #symbol "\n.hidden asset_" #symbol                         \
      "_end\n"                                                                    \
      ".globl asset_" #symbol "\n.globl asset_" #symbol                           \
      "_end\n"                                                                    \
      "asset_" #symbol ":\n.incbin \"" file "\"\nasset_" #symbol                  \
      "_end:\n"                                                                   \
      ".popsection\n");
PAGE_ASSETS(X)
#undef X

enum { HEADERS_MAX = 640 };

/* Scripts and styles of this origin alone, none in the page; what they show comes from here too. */
#define VIEW_POLICY                                                                    \
  "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; " \
  "connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; "    \
  "frame-ancestors 'none'\r\nReferrer-Policy: no-referrer\r\n"

static bool has_it(const struct http_request *request) {
  const char *known = http_request_header(request, "If-None-Match");
  return known && strstr(known, "\"" PAGE_ASSETS_VERSION "\"");
}

/* Whatever the client says that it takes: every browser takes gzip, and curl has --compressed. */
static void respond(const struct http_request *request, const char *type, const char *start,
                    const char *end, const char *caching, const char *more) {
  char headers[HEADERS_MAX];
  snprintf(headers, sizeof headers,
           "ETag: \"" PAGE_ASSETS_VERSION "\"\r\nCache-Control: %s\r\n%s%s", caching,
           has_it(request) ? "" : "Content-Encoding: gzip\r\n", more);
  if (has_it(request)) respond_whole(request, 304, NULL, headers, "", 0);
  else respond_whole(request, 200, type, headers, start, (size_t)(end - start));
}

void view_page_respond(const struct http_request *request) {
  respond(request, TEXT_HTML, asset_view_html, asset_view_html_end, "no-cache", VIEW_POLICY);
}

const char *page_assets_version(void) { return PAGE_ASSETS_VERSION; }

void page_asset_respond(const struct http_request *request, const char *path) {
  static const char version[] = PAGE_ASSETS_VERSION "/";
  bool current = strncmp(path, version, sizeof version - 1) == 0;
  const char *name = current ? path + sizeof version - 1 : "";
#define X(symbol, asset, type, file)                                    \
  if (strcmp(name, asset) == 0)                                         \
    return respond(request, type, asset_##symbol, asset_##symbol##_end, \
                   "public, max-age=31536000, immutable", "");
  PAGE_ASSETS(X)
#undef X
  http_respond_error(request->response, 404, "404 page not found");
}
