/* The checksum of model files: CRC-32 as in zlib, PNG and gzip, which every language has at hand. It finds all damage of up to 32
 * bits in a row, and other damage but for one case in 4 billion. */
#ifndef AC_CHECKSUM_H
#define AC_CHECKSUM_H

#include <stddef.h>
#include <stdint.h>

uint32_t ac_crc32(const void *data, size_t bytes);

#endif
