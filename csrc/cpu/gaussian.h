// gaussian: Box and Muller's deviates from the contract's words. Polynomials from Cephes (logf, sinf, cosf), each
// within two units in the last place of float32 over the range used here; the bound on a deviate is derived in the
// tests.

#pragma once

#include "draws.h"

namespace rethink_fast {
namespace RF_ISA {

// -2 ln((k + 0.5) / 2^20) for k < 2^20: at most 29.1, and at least 9.5e-7.
RF_INLINE f32 minus_two_log(u32 k) {
  const u32 bits = (u32)(to_float(k) + 0.5f);
  // Split into 2^e * m with m in [sqrt(1/2), sqrt(2)), so that near u = 1 nothing cancels.
  const u32 shifted = bits + (0x3F800000u - 0x3F3504F3u);
  const f32 exponent = __builtin_convertvector((i32)(shifted >> 23) - 127 - 20, f32);
  const f32 x = (f32)((shifted & 0x007FFFFFu) + 0x3F3504F3u) - 1.0f;
  const f32 square = x * x;
  f32 p = f32{} + 7.0376836292e-2f;
  p = multiply_add(p, x, f32{} - 1.1514610310e-1f);
  p = multiply_add(p, x, f32{} + 1.1676998740e-1f);
  p = multiply_add(p, x, f32{} - 1.2420140846e-1f);
  p = multiply_add(p, x, f32{} + 1.4249322787e-1f);
  p = multiply_add(p, x, f32{} - 1.6668057665e-1f);
  p = multiply_add(p, x, f32{} + 2.0000714765e-1f);
  p = multiply_add(p, x, f32{} - 2.4999993993e-1f);
  p = multiply_add(p, x, f32{} + 3.3333331174e-1f);
  f32 y = p * x * square;
  y = multiply_add(exponent, f32{} - 2.12194440e-4f, y);
  y = multiply_add(square, f32{} - 0.5f, y);
  return (multiply_add(exponent, f32{} + 0.693359375f, x + y)) * -2.0f;
}

// radius * (cos, sin) of 2 pi (k + 0.5) / 2^12, for k < 2^12: the nearest quarter turn and what remains.
RF_INLINE void cos_sin(u32 k, f32 radius, f32* cos, f32* sin) {
  const u32 moved = k + 512u;
  const u32 quarter = moved >> 10;
  const f32 angle = (to_float(moved & 1023u) - 511.5f) * 1.5339807878856412e-3f;  // 2 pi / 2^12
  const f32 square = angle * angle;
  f32 s = multiply_add(f32{} - 1.9515295891e-4f, square, f32{} + 8.3321608736e-3f);
  s = multiply_add(s, square, f32{} - 1.6666654611e-1f);
  s = multiply_add(s * square, angle, angle);
  f32 c = multiply_add(f32{} + 2.443315711809948e-5f, square, f32{} - 1.388731625493765e-3f);
  c = multiply_add(c, square, f32{} + 4.166664568298827e-2f);
  c = multiply_add(c * square, square, multiply_add(square, f32{} - 0.5f, f32{} + 1.0f));
  const i32 odd = -(i32)(quarter & 1u);
  const u32 cos_sign = ((quarter + 1u) & 2u) << 30, sin_sign = (quarter & 2u) << 30;
  *cos = (f32)(select(odd, (u32)s, (u32)c) ^ cos_sign) * radius;
  *sin = (f32)(select(odd, (u32)c, (u32)s) ^ sin_sign) * radius;
}

// One step makes the deviates of kWideLanes blocks: eight from each.
constexpr int kStep = 8 * kWideLanes;

// The block of each lane is such that unpacking whole 64-bit lanes brings the words into order.
RF_INLINE u64 block_offsets() {
#if defined(__AVX512F__)
  return u64{0, 4, 1, 5, 2, 6, 3, 7};
#elif defined(__AVX2__)
  return u64{0, 2, 1, 3};
#else
  return u64{0, 1};
#endif
}

#if defined(__AVX512F__)
#define RF_EVEN_LANES 0, 8, 2, 10, 4, 12, 6, 14
#define RF_ODD_LANES 1, 9, 3, 11, 5, 13, 7, 15
#elif defined(__AVX2__)
#define RF_EVEN_LANES 0, 4, 2, 6
#define RF_ODD_LANES 1, 5, 3, 7
#else
#define RF_EVEN_LANES 0, 2
#define RF_ODD_LANES 1, 3
#endif

// kLanes words in order to 2 kLanes elements in order.
RF_INLINE void deviates(u32 words, const float* mean, const float* std, float* out) {
  const f32 radius = square_root(minus_two_log(words >> 12));
  f32 cos, sin;
  cos_sin(words & 0xFFFu, radius, &cos, &sin);
  store(out, zip_low(cos, sin) * load<f32>(std) + load<f32>(mean));
  store(out + kLanes, zip_high(cos, sin) * load<f32>(std + kLanes) + load<f32>(mean + kLanes));
}

RF_INLINE void noise_step(const Noise& noise, uint64_t index, uint64_t block, int64_t channel, float* out) {
  const u64 blocks = block_offsets() + block;
  const u64 sample = u64{} + index;
  const WideWords words = wide_philox(noise.key, WideWords{sample, sample >> 32, blocks, blocks >> 32});
  const u64 first = (words.w0 & 0xFFFFFFFFu) | (words.w1 << 32), second = (words.w2 & 0xFFFFFFFFu) | (words.w3 << 32);
  const u32 low = (u32)__builtin_shufflevector(first, second, RF_EVEN_LANES);
  const u32 high = (u32)__builtin_shufflevector(first, second, RF_ODD_LANES);
  deviates(low, noise.mean + channel, noise.std + channel, out);
  const int64_t next = (channel + 2 * kLanes) % noise.channels;
  deviates(high, noise.mean + next, noise.std + next, out + 2 * kLanes);
}

// Elements first ... first + count of one image; out: [count].
static void noise_range(const Noise& noise, uint64_t index, int64_t first, int64_t count, float* out) {
  int64_t done = 0;
  while (done < count) {
    const int64_t skip = (first + done) % 8, start = first + done - skip;
    const uint64_t block = static_cast<uint64_t>(start / 8);
    const int64_t channel = start % noise.channels;
    if (skip == 0 && count - done >= kStep) {
      noise_step(noise, index, block, channel, out + done);
      done += kStep;
    } else {
      alignas(64) float part[kStep];
      noise_step(noise, index, block, channel, part);
      const int64_t taken = count - done < kStep - skip ? count - done : kStep - skip;
      __builtin_memcpy(out + done, part + skip, static_cast<size_t>(taken) * sizeof(float));
      done += taken;
    }
  }
}

static void gaussian(const Noise& noise, uint64_t index, int64_t elements, float* out) {
  noise_range(noise, index, 0, elements, out);
}

}  // namespace RF_ISA
}  // namespace rethink_fast
