// Vector forms of philox.h and bijection.h.

#pragma once

#include "kernels.h"
#include "simd.h"

namespace rethink_fast {
namespace RF_ISA {

struct WideWords {
  u64 w0, w1, w2, w3;
};

// Philox for one counter in each 64-bit lane; the upper halves of the lanes are ignored, and undefined in the result.
// A 64-bit lane suits the widening multiplication: its product is the next round's input as it stands.
RF_INLINE WideWords wide_philox(Key key, WideWords x) {
  const u64 multiplier0 = u64{} + kMultiplier0, multiplier1 = u64{} + kMultiplier1;
#pragma GCC unroll 10
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const u64 product0 = multiply_low(x.w0, multiplier0);
    const u64 product1 = multiply_low(x.w2, multiplier1);
    x.w0 = (product1 >> 32) ^ x.w1 ^ key.k0;
    x.w1 = product1;
    x.w2 = (product0 >> 32) ^ x.w3 ^ key.k1;
    x.w3 = product0;
    key.k0 += kWeyl0;
    key.k1 += kWeyl1;
  }
  return x;
}

RF_INLINE u32 wide_step(const Bijection& bijection, u32 x) {
#pragma GCC unroll 6
  for (int round = 0; round < kBijectionRounds; ++round) {
    x = (x * bijection.multiply[round] + bijection.add[round]) & bijection.mask;
    x ^= x >> bijection.shift;
  }
  return x;
}

// Places are found chunk by chunk, so that what is still to be walked stays in the first cache.
constexpr int kChunk = 2048;

// out[i] = permute(bijection, first + i) for i < count <= kChunk; out: room for kChunk. Every place takes one step;
// those outside [0, n), between none and a half, are gathered densely and take further steps until none is left.
static void permute_chunk(const Bijection& bijection, uint32_t first, int count, uint32_t* out) {
  alignas(64) uint32_t pending[kChunk + kLanes];
  int left = 0;
  for (int i = 0; i < count; i += kLanes) {
    const u32 position = iota() + static_cast<uint32_t>(i);
    const u32 x = wide_step(bijection, position + first);
    store(out + i, x);
#if defined(__AVX512F__)
    const __mmask16 inside = static_cast<__mmask16>((1u << (count - i < kLanes ? count - i : kLanes)) - 1u);
    const __mmask16 outside =
        _mm512_mask_cmpge_epu32_mask(inside, (__m512i)x, _mm512_set1_epi32(static_cast<int>(bijection.n)));
    _mm512_storeu_si512(pending + left, _mm512_maskz_compress_epi32(outside, (__m512i)position));
    left += __builtin_popcount(outside);
#endif
  }
#if !defined(__AVX512F__)
  for (int i = 0; i < count; ++i) {
    pending[left] = static_cast<uint32_t>(i);
    left += out[i] >= bijection.n;
  }
#endif
  while (left > 0) {
    int kept = 0;
    for (int i = 0; i < left; i += kLanes) {
      const int lanes = left - i < kLanes ? left - i : kLanes;
#if defined(__AVX512F__)
      const __mmask16 inside = static_cast<__mmask16>((1u << lanes) - 1u);
      const __m512i position = _mm512_maskz_loadu_epi32(inside, pending + i);
      const __m512i from = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), inside, position, out, 4);
      const u32 x = wide_step(bijection, (u32)from);
      _mm512_mask_i32scatter_epi32(out, inside, position, (__m512i)x, 4);
      const __mmask16 outside =
          _mm512_mask_cmpge_epu32_mask(inside, (__m512i)x, _mm512_set1_epi32(static_cast<int>(bijection.n)));
      _mm512_storeu_si512(pending + kept, _mm512_maskz_compress_epi32(outside, position));
      kept += __builtin_popcount(outside);
#else
      u32 x{};
      for (int lane = 0; lane < lanes; ++lane) x[lane] = out[pending[i + lane]];
      x = wide_step(bijection, x);
      for (int lane = 0; lane < lanes; ++lane) {
        const uint32_t position = pending[i + lane];
        out[position] = x[lane];
        pending[kept] = position;
        kept += x[lane] >= bijection.n;
      }
#endif
    }
    left = kept;
  }
}

}  // namespace RF_ISA
}  // namespace rethink_fast
