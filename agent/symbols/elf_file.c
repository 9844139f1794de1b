#include "elf_file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

enum {
  MAX_SECTIONS = 1 << 20, /* more are taken for nonsense */
  MAX_SEGMENTS = 4096,
  MAX_NOTES = 1 << 16, /* bytes of notes searched for a build-id */
  MAX_NOTE_SECTIONS = 64,
  MAX_ZLIB_RATIO = 1100, /* zlib cannot do better than 1032 : 1 */
  MAX_ZSTD_RATIO = 1 << 15, /* a block, at least 4 bytes, holds at most 128 KiB */
  COMPRESSED_BY_ZSTD = 2, /* ELFCOMPRESS_ZSTD: Debian 12's elf.h does not have it */
  MAX_BUILD_ID = (BUILD_ID_HEX_MAX - 1) / 2
};

int elf_file_open_path(const char *path) {
  int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (descriptor < 0) return -1;
  struct stat status;
  if (fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode)) return descriptor;
  close(descriptor);
  return -1;
}

/* All size bytes at offset, or false. */
static bool read_exactly(const struct elf_file *file, uint64_t offset, uint64_t size, void *out) {
  if (size > file->size || offset > file->size - size) return false;
  if (file->descriptor < 0) {
    if (size > 0) memcpy(out, file->memory + offset, size);
    return true;
  }
  uint8_t *to = out;
  while (size > 0) {
    ssize_t got = pread(file->descriptor, to, size < (1U << 30) ? size : 1U << 30, (off_t)offset);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false; /* truncated meanwhile */
    to += got;
    offset += (uint64_t)got;
    size -= (uint64_t)got;
  }
  return true;
}

bool elf_file_read(struct elf_file *file, uint64_t offset, uint64_t size, struct elf_bytes *out) {
  if (size > file->size || offset > file->size - size)
    return false; /* before memory is taken for it */
  uint8_t *copy = region_alloc(file->region, size + ELF_PADDING);
  if (copy == NULL) return false;
  if (!read_exactly(file, offset, size, copy)) {
    region_free(file->region, copy, size + ELF_PADDING);
    return false;
  }
  memset(copy + size, 0, ELF_PADDING);
  out->data = copy;
  out->size = size;
  return true;
}

static bool header_is_ours(const Elf64_Ehdr *header) {
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
  const unsigned char order = ELFDATA2LSB;
#else
  const unsigned char order = ELFDATA2MSB;
#endif
  return memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 && header->e_ident[EI_CLASS] == ELFCLASS64 &&
         header->e_ident[EI_DATA] == order && header->e_ident[EI_VERSION] == EV_CURRENT;
}

static void read_section_headers(struct elf_file *file) {
  const Elf64_Ehdr *header = &file->header;
  if (header->e_shoff == 0 || header->e_shentsize != sizeof(Elf64_Shdr)) return;
  uint64_t count = header->e_shnum;
  uint32_t names = header->e_shstrndx;
  if (count == 0 ||
      names == SHN_XINDEX) { /* more than fit: the numbers are in the first section header */
    Elf64_Shdr first;
    if (!read_exactly(file, header->e_shoff, sizeof first, &first)) return;
    if (count == 0) count = first.sh_size;
    if (names == SHN_XINDEX) names = first.sh_link;
  }
  if (count == 0 || count > MAX_SECTIONS || names >= count) return;
  struct elf_bytes table;
  if (!elf_file_read(file, header->e_shoff, count * sizeof(Elf64_Shdr), &table)) return;
  const Elf64_Shdr *sections = (const Elf64_Shdr *)(const void *)table.data;
  struct elf_bytes strings;
  if (sections[names].sh_type == SHT_NOBITS ||
      !elf_file_read(file, sections[names].sh_offset, sections[names].sh_size, &strings))
    return;
  file->sections = sections;
  file->section_count = (uint32_t)count;
  file->section_names = (const char *)strings.data;
  file->section_names_size = strings.size;
}

static bool read_headers(struct elf_file *file) {
  if (!read_exactly(file, 0, sizeof file->header, &file->header) || !header_is_ours(&file->header))
    return false;
  read_section_headers(file);
  return true;
}

bool elf_file_from_descriptor(struct elf_file *file, struct region *region, int descriptor) {
  memset(file, 0, sizeof *file);
  file->region = region;
  file->descriptor = descriptor;
  struct stat status;
  if (fstat(descriptor, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0) {
    file->size = (uint64_t)status.st_size;
    file->owner = status.st_uid;
    if (read_headers(file)) return true;
  }
  elf_file_close(file);
  return false;
}

bool elf_file_from_memory(struct elf_file *file, struct region *region, const uint8_t *memory,
                          uint64_t size) {
  memset(file, 0, sizeof *file);
  file->region = region;
  file->descriptor = -1;
  file->owner = (uid_t)-1;
  file->memory = memory;
  file->size = size;
  return read_headers(file);
}

void elf_file_close(struct elf_file *file) {
  if (file->descriptor >= 0) close(file->descriptor);
  file->descriptor = -1;
}

const char *elf_section_name(const struct elf_file *file, const Elf64_Shdr *section) {
  return section->sh_name < file->section_names_size ? file->section_names + section->sh_name : "";
}

const Elf64_Shdr *elf_section_find(const struct elf_file *file, const char *name) {
  for (uint32_t i = 1; i < file->section_count; i++) {
    const Elf64_Shdr *section = &file->sections[i];
    if (section->sh_type != SHT_NOBITS && section->sh_type != SHT_NULL &&
        strcmp(elf_section_name(file, section), name) == 0)
      return section;
  }
  return NULL;
}

static voidpf inflate_alloc(voidpf region, uInt items, uInt size) {
  return region_alloc(region, (size_t)items * size);
}
static void inflate_free(
    voidpf region,
    voidpf block) { /* the region ends with the session; zlib does not tell the size */
  (void)region;
  (void)block;
}

static bool inflate_whole(struct region *region, const uint8_t *in, uint64_t in_size, uint8_t *out,
                          uint64_t out_size) {
  z_stream stream = {.zalloc = inflate_alloc, .zfree = inflate_free, .opaque = region};
  if (inflateInit(&stream) != Z_OK) return false;
  uint64_t taken = 0, given = 0;
  int result = Z_OK;
  while (result == Z_OK) {
    const uint64_t step = 1U << 30; /* zlib counts in 32 bits */
    stream.next_in = (Bytef *)(uintptr_t)(in + taken);
    stream.avail_in = (uInt)(in_size - taken < step ? in_size - taken : step);
    stream.next_out = out + given;
    stream.avail_out = (uInt)(out_size - given < step ? out_size - given : step);
    uInt in_before = stream.avail_in, out_before = stream.avail_out;
    result = inflate(&stream, Z_NO_FLUSH);
    taken += in_before - stream.avail_in;
    given += out_before - stream.avail_out;
    if (in_before == stream.avail_in && out_before == stream.avail_out)
      break; /* no progress: truncated, or too long */
  }
  inflateEnd(&stream);
  return result == Z_STREAM_END && given == out_size;
}

/* Frame by frame: the library also decodes formats before 1.0, which nobody tests any more. */
static bool decompress_zstd(const uint8_t *in, uint64_t in_size, uint8_t *out, uint64_t out_size) {
  while (in_size >= sizeof(uint32_t)) {
    uint32_t magic;
    memcpy(&magic, in, sizeof magic);
    if (magic != ZSTD_MAGICNUMBER) return false;
    size_t frame = ZSTD_findFrameCompressedSize(in, in_size);
    if (ZSTD_isError(frame)) return false;
    size_t got = ZSTD_decompress(out, out_size, in, frame);
    if (ZSTD_isError(got)) return false;
    in += frame, in_size -= frame;
    out += got, out_size -= got;
  }
  return in_size == 0 && out_size == 0;
}

static bool decompress(struct elf_file *file, bool zstd, const uint8_t *in, uint64_t in_size,
                       uint64_t out_size, struct elf_bytes *out) {
  if (out_size / (zstd ? MAX_ZSTD_RATIO : MAX_ZLIB_RATIO) > in_size)
    return false; /* a lie: do not take the memory */
  uint8_t *copy = region_alloc(file->region, out_size + ELF_PADDING);
  if (copy == NULL) return false;
  bool whole = zstd ? decompress_zstd(in, in_size, copy, out_size)
                    : inflate_whole(file->region, in, in_size, copy, out_size);
  if (!whole) {
    region_free(file->region, copy, out_size + ELF_PADDING);
    return false;
  }
  memset(copy + out_size, 0, ELF_PADDING);
  out->data = copy;
  out->size = out_size;
  return true;
}

bool elf_section_read(struct elf_file *file, const Elf64_Shdr *section, struct elf_bytes *out) {
  struct elf_bytes raw;
  if (section->sh_type == SHT_NOBITS ||
      !elf_file_read(file, section->sh_offset, section->sh_size, &raw))
    return false;
  bool decompressed;
  if ((section->sh_flags & SHF_COMPRESSED) != 0) {
    Elf64_Chdr header;
    if (raw.size < sizeof header) return false;
    memcpy(&header, raw.data, sizeof header);
    bool zstd = header.ch_type == COMPRESSED_BY_ZSTD;
    decompressed = (zstd || header.ch_type == ELFCOMPRESS_ZLIB) &&
                   decompress(file, zstd, raw.data + sizeof header, raw.size - sizeof header,
                              header.ch_size, out);
  } else if (strncmp(elf_section_name(file, section), ".zdebug", 7) == 0) {
    if (raw.size < 12 || memcmp(raw.data, "ZLIB", 4) != 0) return false;
    uint64_t size = 0;
    for (int i = 4; i < 12; i++) size = size << 8 | raw.data[i];
    decompressed = decompress(file, false, raw.data + 12, raw.size - 12, size, out);
  } else {
    *out = raw;
    return true;
  }
  region_free(file->region, (void *)(uintptr_t)raw.data, raw.size + ELF_PADDING);
  return decompressed;
}

void build_id_to_hex(const uint8_t *bytes, size_t size, char hex[BUILD_ID_HEX_MAX]) {
  static const char digits[] = "0123456789abcdef";
  if (size > MAX_BUILD_ID) size = MAX_BUILD_ID;
  for (size_t i = 0; i < size; i++) {
    hex[2 * i] = digits[bytes[i] >> 4];
    hex[2 * i + 1] = digits[bytes[i] & 15];
  }
  hex[2 * size] = '\0';
}

bool elf_notes_build_id(const uint8_t *notes, uint64_t size, char hex[BUILD_ID_HEX_MAX]) {
  uint64_t at = 0;
  Elf64_Nhdr note;
  while (at <= size && size - at >= sizeof note) {
    memcpy(&note, notes + at, sizeof note);
    at += sizeof note;
    uint64_t name_size = ((uint64_t)note.n_namesz + 3) & ~(uint64_t)3,
             value_size = ((uint64_t)note.n_descsz + 3) & ~(uint64_t)3;
    if (name_size > size - at || note.n_descsz > size - at - name_size) return false;
    if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && memcmp(notes + at, "GNU", 4) == 0 &&
        note.n_descsz > 0) {
      build_id_to_hex(notes + at + name_size, note.n_descsz, hex);
      return true;
    }
    at += name_size + value_size;
  }
  return false;
}

static bool notes_at(struct elf_file *file, uint64_t offset, uint64_t size,
                     char hex[BUILD_ID_HEX_MAX]) {
  struct elf_bytes notes;
  if (size > MAX_NOTES || !elf_file_read(file, offset, size, &notes)) return false;
  bool found = elf_notes_build_id(notes.data, notes.size, hex);
  region_free(file->region, (void *)(uintptr_t)notes.data, notes.size + ELF_PADDING);
  return found;
}

bool elf_file_build_id(struct elf_file *file, char hex[BUILD_ID_HEX_MAX]) {
  hex[0] = '\0';
  unsigned tries = 0;
  /* sections first: in debug files the segments' contents are gone */
  for (uint32_t i = 1; i < file->section_count && tries < MAX_NOTE_SECTIONS; i++) {
    if (file->sections[i].sh_type != SHT_NOTE) continue;
    tries++;
    if (notes_at(file, file->sections[i].sh_offset, file->sections[i].sh_size, hex)) return true;
  }
  const Elf64_Ehdr *header = &file->header;
  if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phnum > MAX_SEGMENTS) return false;
  for (uint32_t i = 0; i < header->e_phnum && tries < 2 * MAX_NOTE_SECTIONS; i++) {
    Elf64_Phdr segment;
    if (header->e_phoff > file->size ||
        !read_exactly(file, header->e_phoff + i * sizeof segment, sizeof segment, &segment))
      break;
    if (segment.p_type != PT_NOTE) continue;
    tries++;
    if (notes_at(file, segment.p_offset, segment.p_filesz, hex)) return true;
  }
  return false;
}
