# Source packages of a pinned Debian release: fetched through the mirrors that this machine's own
# package sources name, verified, cached. To be sourced (sh). The system's configuration and package
# lists are not touched; downloads stay in ${XDG_CACHE_HOME:-~/.cache}/pprofagent, or where that is
# not this user's own, beside $target. What is unpacked is a copy that nobody else can change,
# verified itself.
# $without tells in messages how to do without a download.

PINNED_RELEASE=bookworm
ATTEMPTS=4
fetcher=$(basename "$0")

is_private() { # DIRECTORY that is there, or is yet to be made
  nearest=$1
  while [ ! -e "$nearest" ] && [ ! -h "$nearest" ]; do nearest=$(dirname "$nearest"); done
  [ -d "$nearest" ] && [ -O "$nearest" ] && [ -z "$(find "$nearest/" -maxdepth 0 -perm -002)" ]
}
cache=
[ ! -d "${HOME:-}" ] || cache=$HOME/.cache
case ${XDG_CACHE_HOME:-} in
  /*) cache=$XDG_CACHE_HOME ;;
esac
case $cache in
  /*) is_private "$cache" && is_private "$cache/pprofagent" && cache=$cache/pprofagent || cache= ;;
  *) cache= ;;
esac
[ -n "$cache" ] || cache=${target:+$target.downloads}

# Of its own: the copies that are unpacked.
copies=
make_copies() {
  [ -z "$copies" ] || return 0
  mkdir -p "$(dirname "$target")"
  # absolute: apt takes a relative path for one below /etc/apt
  copies=$(mktemp -d "$(cd "$(dirname "$target")" && pwd)/$(basename "$target").work.XXXXXX")
  trap 'rm -rf "$copies"' EXIT
  trap 'exit 130' INT TERM
}
take() { # PATH FILE SHA256: a copy, if that is the file
  [ -f "$1" ] && cp "$1" "$copies/$2" &&
    [ "$(sha256sum <"$copies/$2" | cut -d' ' -f1)" = "$3" ] && return 0
  rm -f "$copies/$2"
  return 1
}

# A line URI|Signed-By|Trusted for each Debian mirror of this machine.
debian_mirrors() {
  {
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
      [ -f "$file" ] && sed -n 's/#.*//; s/^[[:space:]]*deb[[:space:]]\{1,\}//p' "$file"
    done | awk '{
      signed = ""; trusted = ""; at = 1
      if ($1 ~ /^\[/) {
        while (at <= NF) {
          option = $at; gsub(/[][]/, "", option)
          if (option ~ /^signed-by=/) signed = substr(option, 11)
          if (option ~ /^trusted=/) trusted = substr(option, 9)
          if ($at ~ /\]$/) break
          at++
        }
        at++
      }
      print $at "|" signed "|" trusted
    }'
    for file in /etc/apt/sources.list.d/*.sources; do
      [ -f "$file" ] && { cat "$file"; echo; }
    done | awk '
      function finish(  n, list, i) {
        n = split(uris, list, " ")
        if (enabled != "no") for (i = 1; i <= n; i++) print list[i] "|" signed "|" trusted
        uris = signed = trusted = enabled = ""
      }
      /^#/ { next }
      /^[[:space:]]*$/ { finish(); next }
      { name = tolower($1); value = $0; sub(/^[^:]*:[[:space:]]*/, "", value) }
      name == "uris:" { uris = value }
      name == "signed-by:" { signed = value }
      name == "trusted:" { trusted = value }
      name == "enabled:" { enabled = value }
      END { finish() }'
  } | grep -E '^[^|]*/debian/?\|' | sort -u |
    awk -F'|' '{ uri = $1; sub(/\/$/, "", uri) } !seen[uri]++'
}

# A deb822 stanza for each Debian mirror of this machine.
write_sources() { # deb|deb-src RELEASE
  debian_mirrors | while IFS='|' read -r uri signed trusted; do
    printf 'Types: %s\nURIs: %s\nSuites: %s\nComponents: main\n' "$1" "$uri" "$2"
    [ -z "$signed" ] || printf 'Signed-By: %s\n' "$signed"
    [ -z "$trusted" ] || printf 'Trusted: %s\n' "$trusted"
    echo
  done
}

download() { # PACKAGE=VERSION FILE SHA256 [RELEASE]
  make_copies
  ! take "$cache/$2" "$2" "$3" || return 0
  command -v apt-get >/dev/null || {
    echo "$fetcher: no apt-get here: $without" >&2
    exit 1
  }
  work=$copies/apt
  mkdir -p "$work/lists/partial" "$work/archives/partial"
  write_sources deb-src "${4:-$PINNED_RELEASE}" >"$work/mirror.sources"
  [ -s "$work/mirror.sources" ] || {
    echo "$fetcher: no Debian mirror in this machine's package sources: $without" >&2
    exit 1
  }
  private="-q -o Dir::Etc::sourcelist=$work/mirror.sources -o Dir::Etc::sourceparts=-
    -o Dir::State::lists=$work/lists
    -o Dir::Cache=$work -o Acquire::Retries=5 -o Acquire::Languages=none
    -o APT::Get::List-Cleanup=0"
  [ "$(id -u)" -ne 0 ] || private="$private -o APT::Sandbox::User=root"
  attempt=1
  while :; do
    # shellcheck disable=SC2086
    if apt-get $private update >"$work/log" 2>&1 &&
      (cd "$work" && apt-get $private source --download-only --tar-only --only-source "$1") \
        >>"$work/log" 2>&1 &&
      [ -f "$work/$2" ]; then
      take "$work/$2" "$2" "$3" && break
      echo "$fetcher: $2 is not the file that was pinned" >&2
    fi
    [ "$attempt" -lt "$ATTEMPTS" ] || {
      cat "$work/log" >&2
      echo "$fetcher: $1 could not be downloaded" >&2
      exit 1
    }
    sleep $((attempt * 3))
    attempt=$((attempt + 1))
  done
  rm -rf "$work"
  mkdir -p "$cache"
  cp "$copies/$2" "$cache/$2.$$"
  mv "$cache/$2.$$" "$cache/$2"
}

unpack() { # FILE DIRECTORY PATTERN...
  archive=$copies/$1
  mkdir -p "$2"
  out=$2
  shift 2
  tar -xf "$archive" -C "$out" --strip-components=1 --wildcards "$@"
}
