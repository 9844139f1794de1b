/* The views of profiles in the browser, /debug/pprof/view/NAME, and the files that they load,
 * /debug/pprof/assets/VERSION/NAME: bytes of the library's own file, as agent/pages/assets has them
 * (scripts/page_assets). Context: the HTTP workers; locks: none. */
#ifndef AGENT_PAGE_ASSETS_H
#define AGENT_PAGE_ASSETS_H

#include <stdbool.h>

#include "agent/http/http_server.h"

/* The page of every view; its scripts ask for the profile that the URL names. */
void view_page_respond(const struct http_request *request);

/* Between "assets/" and a file's name: changes with any of them. */
const char *page_assets_version(void);

/* path: behind "assets/". */
void page_asset_respond(const struct http_request *request, const char *path);

#endif
