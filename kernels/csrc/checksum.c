#include "checksum.h"

#include <string.h>

uint32_t ac_crc32(const void *data, size_t bytes) {
  /* table[k][b]: the remainder of byte b followed by k zero bytes, so that 8 bytes are 8 look-ups that do not wait for each other. */
  uint32_t table[8][256];
  for (uint32_t b = 0; b < 256; b++) {
    uint32_t r = b;
    for (int bit = 0; bit < 8; bit++) r = r >> 1 ^ (r & 1 ? 0xedb88320u : 0);
    table[0][b] = r;
  }
  for (int k = 1; k < 8; k++)
    for (int b = 0; b < 256; b++) table[k][b] = table[k - 1][b] >> 8 ^ table[0][table[k - 1][b] & 255];

  const unsigned char *from = data;
  uint32_t crc = 0xffffffffu;
  for (; bytes >= 8; bytes -= 8, from += 8) {
    uint32_t low, high; /* little-endian, as all machines that have kernels */
    memcpy(&low, from, 4);
    memcpy(&high, from + 4, 4);
    low ^= crc;
    crc = table[7][low & 255] ^ table[6][low >> 8 & 255] ^ table[5][low >> 16 & 255] ^ table[4][low >> 24] ^
          table[3][high & 255] ^ table[2][high >> 8 & 255] ^ table[1][high >> 16 & 255] ^ table[0][high >> 24];
  }
  for (; bytes > 0; bytes--) crc = crc >> 8 ^ table[0][(crc ^ *from++) & 255];
  return ~crc;
}
