// The permutations of rethink_fast/CONTRACT.md: a keyed bijection of [0, n) by cycle walking, evaluated place by
// place, never stored and never sorted. Device-neutral, as philox.h.

#pragma once

#include "philox.h"

namespace rethink_fast {

constexpr int kBijectionRounds = 6;

// One permutation of [0, n), for 1 <= n <= 2^31: multipliers are odd, arithmetic wraps modulo 2^32 under the mask.
struct Bijection {
  uint32_t multiply[kBijectionRounds], add[kBijectionRounds];
  uint32_t n, mask, shift;
};

RF_HD uint32_t bit_length(uint32_t value) {
  uint32_t bits = 0;
  for (; value != 0; value >>= 1) ++bits;
  return bits;
}

// The permutation of `index` in this stream's key: three blocks of draws.
RF_HD Bijection make_bijection(Key key, uint64_t index, uint32_t n) {
  Bijection out{};
  for (int block = 0; block < kBijectionRounds / 2; ++block) {
    const Words words = draw(key, index, static_cast<uint64_t>(block));
    out.multiply[2 * block] = words.w0 | 1u;
    out.add[2 * block] = words.w1;
    out.multiply[2 * block + 1] = words.w2 | 1u;
    out.add[2 * block + 1] = words.w3;
  }
  const uint32_t bits = n > 2 ? bit_length(n - 1) : 1u;
  out.n = n;
  out.mask = (1u << bits) - 1u;
  out.shift = (bits + 1) / 2;
  return out;
}

// One step of the walk: a bijection of [0, mask].
RF_HD uint32_t step(const Bijection& bijection, uint32_t x) {
  for (int round = 0; round < kBijectionRounds; ++round) {
    x = (x * bijection.multiply[round] + bijection.add[round]) & bijection.mask;
    x ^= x >> bijection.shift;
  }
  return x;
}

// Where the permutation sends x, for x < n.
RF_HD uint32_t permute(const Bijection& bijection, uint32_t x) {
  do {
    x = step(bijection, x);
  } while (x >= bijection.n);
  return x;
}

}  // namespace rethink_fast
