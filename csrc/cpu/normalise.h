// The last stage of a preparation: pixel units to network input, whitened or in [-1, 1], as float32 or bfloat16.

#pragma once

#include "simd.h"

namespace rethink_fast {
namespace RF_ISA {

// x / 127.5 - 1, rounded after the division and after the subtraction as the reference does. Where there is fused
// multiplication the quotient is x * (high + low) with high + low = 1 / 127.5 to 48 bits: for each of the 256 bytes it
// is the correctly rounded one, which the tests check.
struct UnitRange {
  RF_INLINE float apply(float x, float, float) {
#if defined(__FMA__) || defined(__aarch64__)
    constexpr float high = static_cast<float>(1.0 / 127.5);
    constexpr float low = static_cast<float>(1.0 / 127.5 - static_cast<double>(high));
    return __builtin_fmaf(x, high, x * low) - 1.0f;
#else
    return x / 127.5f - 1.0f;
#endif
  }
};

struct Whiten {
  RF_INLINE float apply(float x, float mean, float scale) { return (x - mean) * scale; }
};

RF_INLINE void put(float* out, float value) { *out = value; }

// Round to nearest even. Never a NaN: the inputs are bytes, or noise of finite statistics.
RF_INLINE void put(uint16_t* out, float value) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof(bits));
  *out = static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

template <typename How, typename In, typename Out>
RF_INLINE void normalise_cached(const In* __restrict in, Out* __restrict out, int64_t count, float mean, float scale) {
  for (int64_t i = 0; i < count; ++i) put(out + i, How::apply(static_cast<float>(in[i]), mean, scale));
}

// Where and how the output is written. streamed: past the caches, for an output larger than they are; it halves what
// memory must move, since a cached store first reads the line it overwrites.
template <typename Out>
struct Output {
  Out* data;
  bool streamed;
};

template <typename How, typename In, typename Out>
static void normalise(const In* in, Output<Out> to, int64_t count, float mean, float scale) {
  Out* out = to.data;
  if (to.streamed) {
    constexpr int64_t kLine = kCacheLine / static_cast<int64_t>(sizeof(Out)), kPart = 32 * kLine;
    const int64_t misplaced = static_cast<int64_t>(reinterpret_cast<uintptr_t>(out) / sizeof(Out)) % kLine;
    const int64_t ahead = (kLine - misplaced) % kLine, head = ahead < count ? ahead : count;
    normalise_cached<How>(in, out, head, mean, scale);
    in += head, out += head, count -= head;
    alignas(kCacheLine) Out part[kPart];
    while (count >= kLine) {
      const int64_t now = count < kPart ? count / kLine * kLine : kPart;
      normalise_cached<How>(in, part, now, mean, scale);
      stream(out, part, now * static_cast<int64_t>(sizeof(Out)));
      in += now, out += now, count -= now;
    }
  }
  normalise_cached<How>(in, out, count, mean, scale);
}

// The mean and the factor 1 / max(std, 1 / sqrt(elements)) of one image, for pixel units.
struct Statistics {
  float mean, scale;
};

RF_INLINE Statistics finish(double mean, double variance, int64_t elements) {
  const double std = __builtin_sqrt(variance > 0.0 ? variance : 0.0) / 255.0;
  const double least = 1.0 / __builtin_sqrt(static_cast<double>(elements));
  return Statistics{static_cast<float>(mean), static_cast<float>(1.0 / (255.0 * (std > least ? std : least)))};
}

// Exact: integer sums, and a variance whose numerator does not cancel.
static Statistics statistics(const uint8_t* values, int64_t count) {
  uint64_t sum = 0, squares = 0;
  constexpr int64_t kBlock = 32768;  // 2^15 * 255^2 < 2^31
  for (int64_t start = 0; start < count; start += kBlock) {
    const int64_t stop = count - start < kBlock ? count : start + kBlock;
    uint32_t block_sum = 0, block_squares = 0;
    for (int64_t i = start; i < stop; ++i) {
      const uint32_t value = values[i];
      block_sum += value;
      block_squares += value * value;
    }
    sum += block_sum;
    squares += block_squares;
  }
  const uint64_t n = static_cast<uint64_t>(count);
  __extension__ typedef unsigned __int128 uint128;
  const uint128 numerator = static_cast<uint128>(n) * squares - static_cast<uint128>(sum) * sum;
  const double size = static_cast<double>(n);
  return finish(static_cast<double>(sum) / size, static_cast<double>(numerator) / (size * size), count);
}

static Statistics statistics(const float* values, int64_t count) {
  constexpr int kPart = 16;
  double sums[kPart] = {}, squares[kPart] = {};
  int64_t i = 0;
  for (; i + kPart <= count; i += kPart) {
    for (int part = 0; part < kPart; ++part) {
      const double value = values[i + part];
      sums[part] += value;
      squares[part] += value * value;
    }
  }
  double sum = 0.0, square = 0.0;
  for (int part = 0; part < kPart; ++part) sum += sums[part], square += squares[part];
  for (; i < count; ++i) {
    const double value = values[i];
    sum += value;
    square += value * value;
  }
  const double size = static_cast<double>(count), mean = sum / size;
  return finish(mean, square / size - mean * mean, count);
}

}  // namespace RF_ISA
}  // namespace rethink_fast
