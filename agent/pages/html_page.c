#include "html_page.h"

#include <inttypes.h>
#include <stdio.h>

#include "agent/runtime/version.h"

static const char style[] =
    ":root{color-scheme:light "
    "dark;--text:#1c2430;--dim:#5d6876;--line:#dfe3e8;--back:#fff;--card:#f6f8fa;--link:#0b5cad;"
    "--warn:#8a5200;--warn-back:#fff6e5;--warn-line:#f0c36d}\n"
    "@media(prefers-color-scheme:dark){:root{--text:#e4e8ee;--dim:#9aa6b4;--line:#313a45;--back:#"
    "14181d;--card:#1c2229;"
    "--link:#7cb7ff;--warn:#ffce7a;--warn-back:#2b2315;--warn-line:#6b5320}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;max-width:60rem;padding:1.5rem 1.25rem "
    "3rem;background:var(--back);color:var(--text);"
    "font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\n"
    "h1{font-size:1.6rem;line-height:1.25;margin:0;overflow-wrap:anywhere}\n"
    "h2{font-size:1rem;margin:2rem 0 .5rem}\n"
    "a{color:var(--link);text-decoration:none}a:hover,a:focus{text-decoration:underline}\n"
    ".get a,.dim a,p a{text-decoration:underline;text-underline-offset:.15em}\n"
    "code,.mono{font-family:ui-monospace,'DejaVu Sans "
    "Mono',Menlo,Consolas,monospace;font-size:.9em}\n"
    ".dim{color:var(--dim)}\n"
    ".warn{background:var(--warn-back);border:1px solid "
    "var(--warn-line);border-radius:8px;padding:.6rem .9rem;margin:1rem 0 0;"
    "color:var(--warn)}\n"
    ".warn ul{margin:0;padding-left:1.1rem}\n"
    ".facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(13rem,1fr));gap:.6rem;margin:"
    "1.1rem 0 0}\n"
    ".facts div{background:var(--card);border:1px solid "
    "var(--line);border-radius:8px;padding:.55rem .8rem}\n"
    ".facts "
    "b{display:block;font-size:1.15rem;font-weight:600;font-variant-numeric:tabular-nums;overflow-"
    "wrap:anywhere}\n"
    ".more{margin:.9rem 0 0;display:grid;grid-template-columns:max-content 1fr;gap:.15rem 1rem}\n"
    ".more dt{color:var(--dim)}.more dd{margin:0;overflow-wrap:anywhere;white-space:pre-wrap}\n"
    "table{border-collapse:collapse;width:100%}\n"
    "td{padding:.5rem .5rem "
    "0;vertical-align:baseline}td:first-child{text-align:right;width:4.5rem;color:var(--dim);"
    "font-variant-numeric:tabular-nums}\n"
    "td:nth-child(2)>a:only-child{font-weight:600}\n"
    "thead td{color:var(--dim);font-size:.85rem;padding-bottom:.3rem}\n"
    "tr.about td{padding:.05rem .5rem .5rem;border-bottom:1px solid var(--line)}\n"
    "tr.off td{color:var(--dim)}\n"
    ".get{margin-left:.6rem;white-space:nowrap}\n"
    "pre{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.6rem "
    ".8rem;margin:.3rem 0;overflow-x:auto}\n"
    ".profile-name{flex:none;width:7.5rem;font-weight:600}\n"
    "ul.about{padding-left:0;list-style:none;color:var(--dim);font-size:.9rem}ul.about "
    "li{margin:.2rem 0;display:flex}\n"
    "footer{margin-top:2rem;color:var(--dim);font-size:.85rem}\n"
    "@media(max-width:30rem){body{padding:1rem .8rem "
    "2rem}.more{grid-template-columns:1fr;gap:0}.more dd{margin-bottom:.4rem}"
    "td:first-child{width:3.2rem}.facts{grid-template-columns:1fr 1fr}.get{margin:0 .6rem 0 0}}\n";

void html_bytes(struct text_sink *text, uint64_t bytes) {
  static const char units[][4] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  unsigned unit = 0;
  uint64_t whole = bytes, rest = 0;
  while (whole >= 1024 && unit < 6) {
    rest = whole % 1024;
    whole /= 1024;
    unit++;
  }
  if (unit == 0 || rest == 0) text_sink_format(text, "%" PRIu64 " %s", whole, units[unit]);
  else text_sink_format(text, "%" PRIu64 ".%" PRIu64 " %s", whole, rest * 10 / 1024, units[unit]);
}

void html_count(struct text_sink *text, uint64_t value) {
  char digits[24];
  int length = snprintf(digits, sizeof digits, "%" PRIu64, value);
  for (int i = 0; i < length; i++) {
    if (i > 0 && (length - i) % 3 == 0) text_sink_text(text, ",");
    text_sink_bytes(text, &digits[i], 1);
  }
}

void html_duration(struct text_sink *text, uint64_t seconds) {
  unsigned long long days = seconds / 86400, hours = seconds / 3600 % 24,
                     minutes = seconds / 60 % 60;
  if (days) text_sink_format(text, "%llu d %llu h", days, hours);
  else if (hours) text_sink_format(text, "%llu h %llu min", hours, minutes);
  else if (minutes)
    text_sink_format(text, "%llu min %llu s", minutes, (unsigned long long)seconds % 60);
  else text_sink_format(text, "%llu s", (unsigned long long)seconds);
}

void html_page_begin(struct text_sink *text) {
  text_sink_text(text,
                 "<!doctype html>\n<html lang=en>\n<head>\n<meta charset=utf-8>\n"
                 "<meta name=viewport content=\"width=device-width,initial-scale=1\">\n<title>");
}

void html_page_body(struct text_sink *text, const char *own_style) {
  text_sink_text(text, "</title>\n<style>\n");
  text_sink_text(text, style);
  text_sink_text(text, own_style);
  text_sink_text(text, "</style>\n</head>\n<body>\n<main>\n");
}

void html_page_end(struct text_sink *text) {
  text_sink_text(
      text, "</main>\n<footer>libpprofagent " PPROFAGENT_VERSION "</footer>\n</body>\n</html>\n");
}
