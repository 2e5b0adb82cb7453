// The draws of rethink_fast/CONTRACT.md: Philox4x32-10 (Salmon, Moraes, Dror and Shaw, SC 2011), keyed by
// (seed, stream) and counted by (index, block). Device-neutral: C++ and CUDA include it, so no torch headers here.

#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define RF_HD __host__ __device__ __forceinline__
#else
#define RF_HD static inline  // internal linkage: each instruction set keeps its own copy
#endif

namespace rethink_fast {

enum class Stream : uint32_t {
  kLabels = 1,
  kShuffledPixels = 2,
  kRandomPixels = 3,
  kGaussian = 4,
  kOrder = 5,
  kAugment = 6,
  kSynthetic = 7,
};

struct Key {
  uint32_t k0, k1;
};

struct Words {
  uint32_t w0, w1, w2, w3;
};

constexpr uint32_t kMultiplier0 = 0xD2511F53u, kMultiplier1 = 0xCD9E8D57u;
constexpr uint32_t kWeyl0 = 0x9E3779B9u, kWeyl1 = 0xBB67AE85u;
constexpr int kPhiloxRounds = 10;

// The upper word of a * b: a uniform integer in [0, n) where a is a random word and b = n.
RF_HD uint32_t mulhi(uint32_t a, uint32_t b) {
#if defined(__CUDA_ARCH__)
  return __umulhi(a, b);
#else
  return static_cast<uint32_t>((static_cast<uint64_t>(a) * b) >> 32);
#endif
}

RF_HD uint32_t low_word(uint64_t value) { return static_cast<uint32_t>(value); }
RF_HD uint32_t high_word(uint64_t value) { return static_cast<uint32_t>(value >> 32); }

RF_HD Words philox(Key key, Words x) {
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint32_t high0 = mulhi(kMultiplier0, x.w0), low0 = kMultiplier0 * x.w0;
    const uint32_t high1 = mulhi(kMultiplier1, x.w2), low1 = kMultiplier1 * x.w2;
    x = Words{high1 ^ x.w1 ^ key.k0, low1, high0 ^ x.w3 ^ key.k1, low0};
    key.k0 += kWeyl0;
    key.k1 += kWeyl1;
  }
  return x;
}

// The key of a (seed, stream), for 0 <= seed < 2^63. Depends on nothing else: evaluate it once per launch.
RF_HD Key make_key(uint64_t seed, Stream stream) {
  const Words counter{static_cast<uint32_t>(stream), 0, 0, 0x72746866u};
  const Words words = philox(Key{low_word(seed), high_word(seed)}, counter);
  return Key{words.w0, words.w1};
}

// The four words of one (index, block), for 0 <= index < 2^63.
RF_HD Words draw(Key key, uint64_t index, uint64_t block) {
  return philox(key, Words{low_word(index), high_word(index), low_word(block), high_word(block)});
}

}  // namespace rethink_fast
