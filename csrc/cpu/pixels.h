// shuffled_pixels and random_pixels: pixels moved whole to where the bijection sends them.

#pragma once

#include "draws.h"

namespace rethink_fast {
namespace RF_ISA {

constexpr int64_t kOverrun = 64;  // bytes that may be read or written past the end of scratch memory

static void permute_range(const Bijection& bijection, uint32_t first, int64_t count, uint32_t* out) {
  for (int64_t done = 0; done < count; done += kChunk) {
    if (count - done >= kChunk) {
      permute_chunk(bijection, first + static_cast<uint32_t>(done), kChunk, out + done);
    } else {
      alignas(64) uint32_t last[kChunk];
      permute_chunk(bijection, first + static_cast<uint32_t>(done), static_cast<int>(count - done), last);
      __builtin_memcpy(out + done, last, static_cast<size_t>(count - done) * sizeof(uint32_t));
    }
  }
}

// out pixel i is pixel places[step * i] of the image, for three channels of one byte: words of four bytes are loaded
// and stored, each overwritten in part by the next, so the image needs one byte after its end; out needs none.
template <int step>
RF_INLINE void gather_three(const uint8_t* image, const uint32_t* places, int64_t count, uint8_t* out) {
  for (int64_t i = 0; i + 1 < count; ++i) {
    __builtin_memcpy(out + 3 * i, image + 3 * static_cast<int64_t>(places[step * i]), 4);
  }
  if (count > 0) __builtin_memcpy(out + 3 * (count - 1), image + 3 * static_cast<int64_t>(places[step * (count - 1)]), 3);
}

template <int step>
RF_INLINE void gather_pixels(const uint8_t* image, const uint32_t* places, int64_t count, int64_t pixel_bytes,
                             uint8_t* out) {
  if (pixel_bytes == 3) {
    gather_three<step>(image, places, count, out);
  } else if (pixel_bytes == 1) {
    for (int64_t i = 0; i < count; ++i) out[i] = image[places[step * i]];
  } else {
    for (int64_t i = 0; i < count; ++i) {
      __builtin_memcpy(out + i * pixel_bytes, image + static_cast<int64_t>(places[step * i]) * pixel_bytes,
                       static_cast<size_t>(pixel_bytes));
    }
  }
}

// The image is copied to scratch first: it comes from memory in order, and is then permuted out of the cache.
static void move_pixels(const Moves& moves, const uint8_t* image, uint64_t index, uint8_t* out, uint8_t* scratch) {
  __builtin_memcpy(scratch, image, static_cast<size_t>(moves.n * moves.pixel_bytes));
  if (moves.places != nullptr) {
    gather_pixels<1>(scratch, moves.places, moves.n, moves.pixel_bytes, out);
    return;
  }
  const Bijection bijection = make_bijection(moves.key, index, moves.n);
  alignas(64) uint32_t places[kChunk];
  for (int64_t done = 0; done < moves.n; done += kChunk) {
    const int count = static_cast<int>(moves.n - done < kChunk ? moves.n - done : kChunk);
    permute_chunk(bijection, static_cast<uint32_t>(done), count, places);
    gather_pixels<1>(scratch, places, count, moves.pixel_bytes, out + done * moves.pixel_bytes);
  }
}

}  // namespace RF_ISA
}  // namespace rethink_fast
