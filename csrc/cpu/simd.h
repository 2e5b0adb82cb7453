// Vectors of the instruction set that this file is compiled for: GCC's vector types, and intrinsics where those have
// no word for it (widening multiplication, fused multiply-add, square root, compression).

#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#define RF_INLINE static inline __attribute__((always_inline))

namespace rethink_fast {
namespace RF_ISA {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif
constexpr int kWideLanes = kLanes / 2;

typedef uint32_t u32 __attribute__((vector_size(4 * kLanes)));
typedef int32_t i32 __attribute__((vector_size(4 * kLanes)));
typedef float f32 __attribute__((vector_size(4 * kLanes)));
typedef uint64_t u64 __attribute__((vector_size(4 * kLanes)));

template <typename V, typename T>
RF_INLINE V load(const T* from) {
  V out;
  __builtin_memcpy(&out, from, sizeof(V));
  return out;
}

template <typename V, typename T>
RF_INLINE void store(T* to, V value) {
  __builtin_memcpy(to, &value, sizeof(V));
}

constexpr int64_t kCacheLine = 64;

// Copies whole cache lines past the caches, where the machine has such a store; `order_streams` makes them visible.
RF_INLINE void stream(void* to, const void* from, int64_t bytes) {
#if defined(__AVX512F__)
  for (int64_t i = 0; i < bytes; i += 64) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(static_cast<char*>(to) + i),
                        _mm512_load_si512(static_cast<const char*>(from) + i));
  }
#elif defined(__x86_64__)
  for (int64_t i = 0; i < bytes; i += 16) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(static_cast<char*>(to) + i),
                     _mm_load_si128(reinterpret_cast<const __m128i*>(static_cast<const char*>(from) + i)));
  }
#else
  __builtin_memcpy(to, from, static_cast<size_t>(bytes));
#endif
}

RF_INLINE void order_streams() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

RF_INLINE u32 iota() {
  u32 out{};
  for (int lane = 0; lane < kLanes; ++lane) out[lane] = static_cast<uint32_t>(lane);
  return out;
}

// The 64-bit products of the lower halves of the lanes.
RF_INLINE u64 multiply_low(u64 a, u64 b) {
#if defined(__AVX512F__)
  return (u64)_mm512_mul_epu32((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
  return (u64)_mm256_mul_epu32((__m256i)a, (__m256i)b);
#elif defined(__x86_64__)
  return (u64)_mm_mul_epu32((__m128i)a, (__m128i)b);
#elif defined(__aarch64__)
  return (u64)vmull_u32(vmovn_u64((uint64x2_t)a), vmovn_u64((uint64x2_t)b));
#else
  return (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu);
#endif
}

// a * b + c, rounded once where the machine can.
RF_INLINE f32 multiply_add(f32 a, f32 b, f32 c) {
#if defined(__AVX512F__)
  return (f32)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__)
  return (f32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__aarch64__)
  return (f32)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
  return a * b + c;
#endif
}

RF_INLINE f32 square_root(f32 x) {
#if defined(__AVX512F__)
  return (f32)_mm512_sqrt_ps((__m512)x);
#elif defined(__AVX2__)
  return (f32)_mm256_sqrt_ps((__m256)x);
#elif defined(__x86_64__)
  return (f32)_mm_sqrt_ps((__m128)x);
#elif defined(__aarch64__)
  return (f32)vsqrtq_f32((float32x4_t)x);
#else
  f32 out{};
  for (int lane = 0; lane < kLanes; ++lane) out[lane] = __builtin_sqrtf(x[lane]);
  return out;
#endif
}

RF_INLINE f32 to_float(u32 x) { return __builtin_convertvector((i32)x, f32); }  // for x < 2^31

// a where the mask is set, else b.
RF_INLINE u32 select(i32 mask, u32 a, u32 b) { return (a & (u32)mask) | (b & ~(u32)mask); }

// Lane by lane: the first and the second half of a0 b0 a1 b1 ...
#if defined(__AVX512F__)
#define RF_ZIP_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define RF_ZIP_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX2__)
#define RF_ZIP_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define RF_ZIP_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define RF_ZIP_LOW 0, 4, 1, 5
#define RF_ZIP_HIGH 2, 6, 3, 7
#endif
RF_INLINE f32 zip_low(f32 a, f32 b) { return __builtin_shufflevector(a, b, RF_ZIP_LOW); }
RF_INLINE f32 zip_high(f32 a, f32 b) { return __builtin_shufflevector(a, b, RF_ZIP_HIGH); }

}  // namespace RF_ISA
}  // namespace rethink_fast
