/*
 * Whether an image may be handed to a driver. cuModuleLoadDataEx is told no size: it believes the offsets that it
 * reads, so that a torn file would be read past its end.
 */
#include <string.h>
#include "shim.h"

/* Offsets of ELF64 fields, from the ELF specification. */
enum { ELF_CLASS = 4, ELF_DATA = 5, ELF_SEGMENTS = 32, ELF_SECTIONS = 40, ELF_HEADER = 64 };
enum { ELF_SEGMENT_SIZE = 54, ELF_SEGMENT_COUNT = 56, ELF_SECTION_SIZE = 58, ELF_SECTION_COUNT = 60 };
enum { SECTION_TYPE = 4, SECTION_OFFSET = 24, SECTION_BYTES = 32, SECTION_HEADER = 64, SECTION_WITHOUT_BYTES = 8 };
enum { SEGMENT_OFFSET = 8, SEGMENT_BYTES = 32, SEGMENT_HEADER = 56 };

/* Cubins and the machines that run this are little-endian. */
static uint64_t field(const unsigned char *at, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = bytes; i > 0; i--) value = value << 8 | at[i - 1];
  return value;
}

static bool inside(uint64_t offset, uint64_t bytes, uint64_t of) { return offset <= of && bytes <= of - offset; }

/* A table of `count` headers, and what each names. */
static bool table_ok(const unsigned char *image, size_t bytes, uint64_t offset, uint64_t count, uint64_t size,
                     uint64_t least, size_t partOffset, size_t partBytes, bool sections) {
  if (count == 0) return true;
  if (size < least || !inside(offset, count * size, bytes)) return false;
  for (uint64_t i = 0; i < count; i++) {
    const unsigned char *header = image + offset + i * size;
    if (sections && field(header + SECTION_TYPE, 4) == SECTION_WITHOUT_BYTES) continue;
    if (!inside(field(header + partOffset, 8), field(header + partBytes, 8), bytes)) return false;
  }
  return true;
}

static bool elf_ok(const unsigned char *image, size_t bytes) {
  if (bytes < ELF_HEADER || image[ELF_CLASS] != 2 || image[ELF_DATA] != 1) return false;
  return table_ok(image, bytes, field(image + ELF_SECTIONS, 8), field(image + ELF_SECTION_COUNT, 2),
                  field(image + ELF_SECTION_SIZE, 2), SECTION_HEADER, SECTION_OFFSET, SECTION_BYTES, true) &&
         table_ok(image, bytes, field(image + ELF_SEGMENTS, 8), field(image + ELF_SEGMENT_COUNT, 2),
                  field(image + ELF_SEGMENT_SIZE, 2), SEGMENT_HEADER, SEGMENT_OFFSET, SEGMENT_BYTES, false);
}

bool image_ok(const unsigned char *image, size_t bytes, const char *call, Failure *failure) {
  if (bytes >= 4 && memcmp(image,
                           "\x7f"
                           "ELF",
                           4) == 0)
    return elf_ok(image, bytes) || failure_set(failure, call, "INVALID_ARGUMENT",
                                               "the cubin is torn: its parts do not lie in its %zu bytes", bytes);
  /* PTX is text, and its first directive is its version. */
  if (bytes > 0 && memchr(image, 0, bytes) == NULL && memmem(image, bytes, ".version", 8) != NULL) return true;
  return failure_set(failure, call, "INVALID_ARGUMENT", "%zu bytes that are neither a cubin nor PTX", bytes);
}
