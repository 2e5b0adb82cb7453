// random_pixels with the image in shared memory: one block an image, no torch headers. The parts marked RF_HD also
// compile for the host, where tests/ compares them with the reference.
//
// A block copies the front of its image into shared memory (all of it up to 227 KB on Hopper; what is beyond is
// fetched from L2), evaluates the permutation and writes whole 16-byte pieces. Two things Triton cannot say: a random
// fetch costs a bank of shared memory (about 3.5 wavefronts for 32 lanes) instead of a sector of L2, and each lane
// walks a queue of its own. With 16 pixels a lane at 299 x 299, a warp takes about 1.9 steps of the walk a pixel
// where a block in lockstep takes 6.5. Derived, not yet measured.

#pragma once

#include "../bijection.h"

namespace rethink_fast {

constexpr uint32_t kPixelsPerLane = 16;
constexpr uint32_t kWarp = 32;
constexpr uint32_t kPixelsPerWarp = kPixelsPerLane * kWarp;
constexpr uint32_t kVector = 16;  // bytes of the widest load and store

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

// Calls emit(q, permute(q)) for q = first, first + stride, ... below end, in this order. Lanes of a warp that run this
// together wait for one another only at the end of their queues, not at every pixel.
template <typename Emit>
RF_HD void walk(const TopBijection& bijection, uint32_t first, uint32_t end, uint32_t stride, Emit emit) {
  uint32_t q = first, x = first << bijection.up;
  while (q < end) {
    for (int round = 0; round < kBijectionRounds; ++round) {
      x = x * bijection.multiply[round] + bijection.add[round];
      x ^= (x >> bijection.shift) & bijection.mask;
    }
    if (x <= bijection.last) {
      emit(q, x >> bijection.up);
      q += stride;
      x = q << bijection.up;
    }
  }
}

struct alignas(kVector) Vector {
  uint32_t word[4];
};

RF_HD uint32_t misalignment(const uint8_t* pointer) {
  return static_cast<uint32_t>(reinterpret_cast<uintptr_t>(pointer) % kVector);
}

// Copies `size` bytes as one of `lanes` that share the work. Both pointers are equally far from 16-byte alignment.
RF_HD void copy_aligned(uint8_t* __restrict__ to, const uint8_t* __restrict__ from, uint32_t size, uint32_t lane,
                        uint32_t lanes) {
  const uint32_t to_boundary = (kVector - misalignment(from)) % kVector;
  const uint32_t head = to_boundary < size ? to_boundary : size;
  const uint32_t vectors = (size - head) / kVector;
  const uint32_t tail = head + vectors * kVector;
  for (uint32_t i = lane; i < head; i += lanes) to[i] = from[i];
#if defined(__CUDA_ARCH__)
#pragma unroll 4  // four loads in flight
#endif
  for (uint32_t i = lane; i < vectors; i += lanes) {
    reinterpret_cast<Vector*>(to + head)[i] = reinterpret_cast<const Vector*>(from + head)[i];
  }
  for (uint32_t i = tail + lane; i < size; i += lanes) to[i] = from[i];
}

// Bytes of a warp's output tile and of the tiles of a block: each starts as misaligned as the output it is copied to.
RF_HD uint32_t tile_bytes(uint32_t channels) { return kPixelsPerWarp * channels + kVector; }

// What one lane does for the tile of pixels [start, end), end - start <= kPixelsPerWarp: its own pixels, into the tile
// at shared[tile], from the image whose first `staged` bytes are at shared[stage].
template <int kChannels>
RF_HD void fill_tile(const TopBijection& bijection, uint8_t* shared, uint32_t tile, uint32_t stage,
                     const uint8_t* image, uint32_t staged, uint32_t start, uint32_t end, uint32_t lane) {
  walk(bijection, start + lane, end, kWarp, [&](uint32_t q, uint32_t source) {
    const uint32_t from = source * kChannels, to = (q - start) * kChannels;
    uint8_t pixel[kChannels];
    // two loops and not one pointer, so that each load knows its memory; all loads before the first store
    if (from + kChannels <= staged) {
      for (int c = 0; c < kChannels; ++c) pixel[c] = shared[stage + from + c];
    } else {
      for (int c = 0; c < kChannels; ++c) pixel[c] = image[from + c];
    }
    for (int c = 0; c < kChannels; ++c) shared[tile + to + c] = pixel[c];
  });
}

#if defined(__CUDACC__)

// Keeps a value in its register: the compiler would rather make it again from the thread's index at every pixel.
__device__ __forceinline__ uint32_t opaque(uint32_t value) {
  asm volatile("" : "+r"(value));
  return value;
}

// images, out: uint8 [B, n, kChannels], one block an image. staged: bytes of each image held in shared memory, where
// the tiles of the warps come first.
template <int kChannels>
__global__ void __launch_bounds__(768) random_pixels_kernel(uint8_t* __restrict__ out,
                                                            const uint8_t* __restrict__ images,
                                                            const int64_t* __restrict__ index, Key key, uint32_t n,
                                                            uint32_t staged) {
  extern __shared__ __align__(kVector) uint8_t shared[];
  __shared__ TopBijection bijection_of_image;
  const uint32_t warp = threadIdx.x / kWarp, warps = blockDim.x / kWarp, lane = threadIdx.x % kWarp;
  const size_t base = static_cast<size_t>(blockIdx.x) * n * kChannels;
  const uint8_t* image = images + base;
  const uint32_t stage = opaque(warps * tile_bytes(kChannels) + misalignment(image));
  if (threadIdx.x == 0) {
    bijection_of_image = to_top(make_bijection(key, static_cast<uint64_t>(index[blockIdx.x]), n));
  }
  copy_aligned(shared + stage, image, staged, threadIdx.x, blockDim.x);
  __syncthreads();
  const TopBijection bijection = bijection_of_image;
  for (uint32_t start = warp * kPixelsPerWarp; start < n; start += warps * kPixelsPerWarp) {
    const uint32_t end = n - start < kPixelsPerWarp ? n : start + kPixelsPerWarp;
    uint8_t* to = out + base + static_cast<size_t>(start) * kChannels;
    const uint32_t tile = opaque(warp * tile_bytes(kChannels) + misalignment(to));
    fill_tile<kChannels>(bijection, shared, tile, stage, image, staged, start, end, lane);
    __syncwarp();
    copy_aligned(to, shared + tile, (end - start) * kChannels, lane, kWarp);
    __syncwarp();
  }
}

#endif

}  // namespace rethink_fast
