// shuffled_pixels and random_pixels of large images, scaled to [-1, 1]: one block an image, the image in shared
// memory. No torch headers. The parts marked RF_HD also compile for the host, where tests/ compares them with the
// reference.
//
// A random fetch of 3 bytes from L2 moves a sector of 32; from shared memory it costs two words. A block copies the
// front of its image there (227 KB on Hopper; what is beyond is fetched from L2). Each warp then makes
// separate tiles, in three phases:
// - walk: where each pixel comes from. Each lane walks a separate queue, so that a warp takes about 2 steps of the walk
//   a pixel at 299 x 299, where a block in lockstep takes 6.5. shuffled_pixels reads a table instead.
// - fetch: the pixels, a word of the tile for each. All loads of a lane are in flight together.
// - write: 16-byte stores of scaled elements.

#pragma once

#include <cmath>
#include <cstring>

#include "../bijection.h"

namespace rethink_fast {

constexpr uint32_t kWarp = 32;
constexpr uint32_t kChannels = 3;
constexpr uint32_t kVector = 16;  // bytes of the widest load and store
constexpr uint32_t kPixelsPerLane = 8;
constexpr uint32_t kPixelsPerWarp = kPixelsPerLane * kWarp;
constexpr uint32_t kThreads = 768;
constexpr uint32_t kTileBytes = kPixelsPerWarp * 4 + kVector;  // a word a pixel, and what a vector reads beyond them

// Shared memory by its 32-bit addresses: from pointers, the compiler would make them again at every access.
#if defined(__CUDA_ARCH__)
__device__ __forceinline__ uint32_t shared_word(uint32_t at) {
  uint32_t value;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(value) : "r"(at));
  return value;
}
__device__ __forceinline__ void set_shared_word(uint32_t at, uint32_t value) {
  asm volatile("st.shared.u32 [%0], %1;" : : "r"(at), "r"(value) : "memory");
}
#else
static uint8_t* host_shared = nullptr;
static inline uint32_t shared_word(uint32_t at) {
  uint32_t value;
  std::memcpy(&value, host_shared + at, sizeof(value));
  return value;
}
static inline void set_shared_word(uint32_t at, uint32_t value) { std::memcpy(host_shared + at, &value, sizeof(value)); }
#endif

// Keeps a value in its register: the compiler would rather make it again at every pixel.
RF_HD uint32_t opaque(uint32_t value) {
#if defined(__CUDA_ARCH__)
  asm volatile("" : "+r"(value));
#endif
  return value;
}

// The lower word of high:low shifted right by `bits` modulo 32.
RF_HD uint32_t shifted(uint32_t low, uint32_t high, uint32_t bits) {
#if defined(__CUDA_ARCH__)
  return __funnelshift_r(low, high, bits);
#else
  return static_cast<uint32_t>(((static_cast<uint64_t>(high) << 32) | low) >> (bits % 32));
#endif
}

// The bijection of the contract with its values in the top bits of the word: products and sums overflow as they
// should and one LOP3 masks what the shift drops below, so a round is three instructions.
struct TopBijection {
  uint32_t multiply[kBijectionRounds], add[kBijectionRounds];
  uint32_t last, mask, shift, up;
};

RF_HD TopBijection to_top(const Bijection& bijection) {
  TopBijection out{};
  out.up = 32u - bit_length(bijection.mask);
  for (int round = 0; round < kBijectionRounds; ++round) {
    out.multiply[round] = bijection.multiply[round];
    out.add[round] = bijection.add[round] << out.up;
  }
  out.last = (bijection.n - 1u) << out.up;
  out.mask = bijection.mask << out.up;
  out.shift = bijection.shift;
  return out;
}

RF_HD uint32_t step(const TopBijection& bijection, uint32_t x) {
  for (int round = 0; round < kBijectionRounds; ++round) {
    x = x * bijection.multiply[round] + bijection.add[round];
    x ^= (x >> bijection.shift) & bijection.mask;
  }
  return x;
}

RF_HD uint32_t misalignment(const void* pointer) {
  return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(pointer) % kVector);
}

struct alignas(kVector) Vector {
  uint32_t word[4];
};

// Copies `size` bytes as one of `lanes` that share the work. Both pointers are equally far from 16-byte alignment.
RF_HD void copy_aligned(uint8_t* __restrict__ to, const uint8_t* __restrict__ from, uint32_t size, uint32_t lane,
                        uint32_t lanes) {
  const uint32_t to_boundary = (kVector - misalignment(from)) % kVector;
  const uint32_t head = to_boundary < size ? to_boundary : size;
  const uint32_t vectors = (size - head) / kVector;
  const uint32_t tail = head + vectors * kVector;
  for (uint32_t i = lane; i < head; i += lanes) to[i] = from[i];
#if defined(__CUDA_ARCH__)
#pragma unroll 8  // loads in flight
#endif
  for (uint32_t i = lane; i < vectors; i += lanes) {
    reinterpret_cast<Vector*>(to + head)[i] = reinterpret_cast<const Vector*>(from + head)[i];
  }
  for (uint32_t i = tail + lane; i < size; i += lanes) to[i] = from[i];
}

// An image whose first bytes are in shared memory. Byte b lies at near + byte + b there, up to `limit`, and at
// far + byte + b in global memory; near and far are multiples of 4.
struct Stage {
  const uint8_t* far;
  uint32_t near, byte, limit;
};

// stage: where shared memory holds the first `staged` bytes, as misaligned as the image.
RF_HD Stage make_stage(const uint8_t* image, uint32_t stage, uint32_t staged) {
  const uint32_t byte = stage % 4u;
  return Stage{image - byte, stage - byte, byte, staged < kChannels ? 0u : staged + byte - (kChannels - 1u)};
}

// Puts where the `count` pixels from `start` on come from into the tile, in the top bits of a word, as one lane.
RF_HD void walk_tile(const TopBijection& bijection, uint32_t tile, uint32_t start, uint32_t count, uint32_t lane) {
  const uint32_t next = opaque(kWarp << bijection.up), end = tile + count * 4;
  uint32_t at = tile + lane * 4, fresh = (start + lane) << bijection.up, x = fresh;
  while (at < end) {
    x = step(bijection, x);
    if (x <= bijection.last) {
      set_shared_word(at, x);
      at += kWarp * 4;
      fresh += next;
      x = fresh;
    }
  }
}

// Puts the pixels of the tile in the place of their sources, as one lane: three bytes of each word.
// table: of the sources, or null where walk_tile left them in the tile.
template <bool kTable>
RF_HD void fetch_tile(const Stage& stage, const uint32_t* table, uint32_t up, uint32_t tile, uint32_t start, uint32_t n,
                      uint32_t lane) {
  const uint32_t mine = tile + lane * 4;
  uint32_t at[kPixelsPerLane], low[kPixelsPerLane], high[kPixelsPerLane];
  for (uint32_t j = 0; j < kPixelsPerLane; ++j) {
    uint32_t source;
    // pixels beyond the image: any source will do
    if (kTable) {
      const uint32_t q = start + lane + j * kWarp;
      source = table[q < n ? q : n - 1u];
    } else {
      source = shared_word(mine + j * kWarp * 4) >> up;
      source = source < n ? source : n - 1u;
    }
    at[j] = source * kChannels + stage.byte;
  }
  for (uint32_t j = 0; j < kPixelsPerLane; ++j) {
    // the words of the first and the last byte; from L2 the second only where it is another
    const uint32_t first = at[j] & ~3u, last = (at[j] + kChannels - 1u) & ~3u;
    if (at[j] < stage.limit) {
      low[j] = shared_word(stage.near + first);
      high[j] = shared_word(stage.near + last);
    } else {
      low[j] = *reinterpret_cast<const uint32_t*>(stage.far + first);
      high[j] = 0;
      if (last != first) high[j] = *reinterpret_cast<const uint32_t*>(stage.far + last);
    }
  }
  for (uint32_t j = 0; j < kPixelsPerLane; ++j) set_shared_word(mine + j * kWarp * 4, shifted(low[j], high[j], at[j] * 8));
}

// A byte of a word as a float. On the GPU it stands in the mantissa of 2^23: a conversion takes four times as long.
RF_HD float byte_of(uint32_t word, uint32_t number) {
#if defined(__CUDA_ARCH__)
  return __uint_as_float(__byte_perm(word, 0x4B000000u, 0x7540u | number)) - 8388608.0f;
#else
  return static_cast<float>((word >> (8 * number)) & 0xFFu);
#endif
}

struct BFloat16 {
  uint16_t bits;
};

// Two floats to the nearest bfloat16, ties to even; the first in the lower half.
RF_HD uint32_t to_bfloat16(float first, float second) {
#if defined(__CUDA_ARCH__)
  uint32_t both;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(second), "f"(first));
  return both;
#else
  uint32_t bits[2];
  std::memcpy(bits, &first, sizeof(float));
  std::memcpy(bits + 1, &second, sizeof(float));
  for (uint32_t& one : bits) one = (one + 0x7FFFu + ((one >> 16) & 1u)) >> 16;
  return bits[1] << 16 | bits[0];
#endif
}

// x / 127.5 - 1 of a byte as torch rounds it: one correction makes the quotient torch's.
RF_HD float to_unit_range(float x) {
  const float quotient = x * (1.0f / 127.5f);
  return fmaf(fmaf(quotient, -127.5f, x), 1.0f / 127.5f, quotient) - 1.0f;
}

// The same for bfloat16, where one rounding less gives the same 256 values.
RF_HD float to_unit_range_for_bfloat16(float x) { return fmaf(x, 1.0f / 127.5f, -1.0f); }

RF_HD void set_element(float& to, uint32_t byte) { to = to_unit_range(static_cast<float>(byte)); }
RF_HD void set_element(BFloat16& to, uint32_t byte) {
  to.bits = static_cast<uint16_t>(to_bfloat16(to_unit_range_for_bfloat16(static_cast<float>(byte)), 0.0f));
}

// A word of elements number * (4 / sizeof(T)) ... of those that the bytes make.
RF_HD uint32_t word_of_elements(const float*, const uint32_t* bytes, uint32_t number) {
  const float value = to_unit_range(byte_of(*bytes, number));
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}
RF_HD uint32_t word_of_elements(const BFloat16*, const uint32_t* bytes, uint32_t number) {
  const uint32_t four = bytes[number / 2], first = number % 2 * 2;
  return to_bfloat16(to_unit_range_for_bfloat16(byte_of(four, first)),
                     to_unit_range_for_bfloat16(byte_of(four, first + 1)));
}

// Writes the tile's first `elements` elements to `to`, as one lane.
template <typename T>
RF_HD void write_tile(T* to, uint32_t tile, uint32_t elements, uint32_t lane) {
  constexpr uint32_t kEach = kVector / sizeof(T);
  const uint32_t to_boundary = (kVector - misalignment(to)) % kVector / sizeof(T);
  const uint32_t head = to_boundary < elements ? to_boundary : elements;
  const uint32_t vectors = (elements - head) / kEach, tail = (elements - head) % kEach;
#if defined(__CUDA_ARCH__)
#pragma unroll
#endif
  for (uint32_t i = 0; i < kPixelsPerLane * kChannels / kEach + 1; ++i) {
    const uint32_t v = lane + i * kWarp;
    if (v >= vectors) break;
    const uint32_t element = head + v * kEach, pixel = element / kChannels, first = element % kChannels;
    uint32_t pixels[kEach / 2], bytes[kEach / 4];
    for (uint32_t k = 0; k < kEach / 2; ++k) pixels[k] = shared_word(tile + (pixel + k) * 4);
    // the bytes of successive pixels one after another, then from the first element on
    const uint32_t low = (pixels[0] & 0xFFFFFFu) | pixels[1] << 24;
    if (kEach == 4) {
      bytes[0] = shifted(low, pixels[1] >> 8 & 0xFFFFu, first * 8);
    } else {
      const uint32_t middle = (pixels[1] >> 8 & 0xFFFFu) | pixels[kEach / 2 - 2] << 16;
      const uint32_t high = (pixels[kEach / 2 - 2] >> 16 & 0xFFu) | pixels[kEach / 2 - 1] << 8;
      bytes[0] = shifted(low, middle, first * 8);
      bytes[kEach / 4 - 1] = shifted(middle, high, first * 8);
    }
    Vector vector;
    for (uint32_t k = 0; k < 4; ++k) vector.word[k] = word_of_elements(to, bytes, k);
    reinterpret_cast<Vector*>(to + head)[v] = vector;
  }
  if (lane < head + tail) {
    const uint32_t element = lane < head ? lane : elements - 1 - (lane - head);
    set_element(to[element], shared_word(tile + element / kChannels * 4) >> (element % kChannels * 8) & 0xFFu);
  }
}

#if defined(__CUDACC__)

// out: T [B, n, 3]. images: uint8 [M, n, 3], of which image b is number rows[b]. index: of the samples.
// table: of the sources, filled, where kTable; else key is of the draws. staged: bytes of an image in shared memory.
// `parts` blocks share an image, and each holds all of it. Shared memory: the tiles of the warps, then the image.
template <typename T, bool kTable>
__global__ void __launch_bounds__(kThreads, 1)
    moved_pixels_kernel(T* __restrict__ out, const uint8_t* __restrict__ images, const int64_t* __restrict__ rows,
                        const int64_t* __restrict__ index, const uint32_t* __restrict__ table, Key key, uint32_t n,
                        uint32_t staged, uint32_t parts) {
  extern __shared__ __align__(kVector) uint8_t shared[];
  __shared__ TopBijection bijection_of_image;
  const uint32_t warp = threadIdx.x / kWarp, lane = threadIdx.x % kWarp;
  const uint32_t number = blockIdx.x / parts, part = blockIdx.x % parts;
  const uint32_t shared_start = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  const uint8_t* image = images + static_cast<size_t>(rows[number]) * n * kChannels;
  const uint32_t to = kThreads / kWarp * kTileBytes + misalignment(image);
  if (!kTable && threadIdx.x == 0) {
    bijection_of_image = to_top(make_bijection(key, static_cast<uint64_t>(index[number]), n));
  }
  copy_aligned(shared + to, image, staged, threadIdx.x, kThreads);
  __syncthreads();
  TopBijection bijection{};
  if (!kTable) bijection = bijection_of_image;
  Stage stage = make_stage(image, shared_start + to, staged);
  stage.near = opaque(stage.near);
  const uint32_t tile = opaque(shared_start + warp * kTileBytes);
  T* const image_out = out + static_cast<size_t>(number) * n * kChannels;
  for (uint32_t start = (part * (kThreads / kWarp) + warp) * kPixelsPerWarp; start < n;
       start += parts * kThreads * kPixelsPerLane) {
    const uint32_t count = n - start < kPixelsPerWarp ? n - start : kPixelsPerWarp;
    if (!kTable) {
      walk_tile(bijection, tile, start, count, lane);
      __syncwarp();
    }
    fetch_tile<kTable>(stage, table, bijection.up, tile, start, n, lane);
    __syncwarp();
    write_tile(image_out + start * kChannels, tile, count * kChannels, lane);
    __syncwarp();
  }
}

// table: uint32 [n], where the permutation of shuffled_pixels takes each position.
static __global__ void table_kernel(uint32_t* __restrict__ table, Key key, uint32_t n) {
  __shared__ TopBijection shared;
  if (threadIdx.x == 0) shared = to_top(make_bijection(key, 0, n));
  __syncthreads();
  const TopBijection bijection = shared;
  const uint32_t q = blockIdx.x * blockDim.x + threadIdx.x;
  if (q >= n) return;
  uint32_t x = q << bijection.up;
  do {
    x = step(bijection, x);
  } while (x > bijection.last);
  table[q] = x >> bijection.up;
}

#endif

}  // namespace rethink_fast
