// What the lanes and warps of moved_pixels.cuh do, one after another on the host, for the tests: no part of the
// library. `staged` bytes of the image lie in "shared memory".

#include <vector>

#include "cuda/moved_pixels.cuh"

using namespace rethink_fast;

namespace {

template <typename T, bool kTable>
void block(T* out, const uint8_t* image, Key key, uint64_t index, uint32_t n, uint32_t staged) {
  const Bijection bijection = make_bijection(key, kTable ? 0 : index, n);
  std::vector<uint32_t> table(kTable ? n : 0);
  for (uint32_t q = 0; q < table.size(); ++q) table[q] = permute(bijection, q);
  std::vector<Vector> shared((kTileBytes + staged) / kVector + 3);
  host_shared = reinterpret_cast<uint8_t*>(shared.data());
  const uint32_t tile = 0, to = kTileBytes + misalignment(image);
  for (uint32_t lane = 0; lane < 3 * kWarp; ++lane) copy_aligned(host_shared + to, image, staged, lane, 3 * kWarp);
  const Stage stage = make_stage(image, to, staged);
  const TopBijection top = to_top(bijection);
  for (uint32_t start = 0; start < n; start += kPixelsPerWarp) {
    const uint32_t count = n - start < kPixelsPerWarp ? n - start : kPixelsPerWarp;
    for (uint32_t lane = 0; lane < kWarp && !kTable; ++lane) walk_tile(top, tile, start, count, lane);
    for (uint32_t lane = 0; lane < kWarp; ++lane) {
      fetch_tile<kTable>(stage, table.data(), top.up, tile, start, n, lane);
    }
    for (uint32_t lane = 0; lane < kWarp; ++lane) write_tile(out + start * kChannels, tile, count * kChannels, lane);
  }
}

}  // namespace

// out: float32 [n, 3], or the bits of bfloat16. shared: whether for shuffled_pixels, else random_pixels.
extern "C" void moved_pixels_of_image(void* out, const uint8_t* image, uint64_t seed, uint64_t index, uint32_t n,
                                      uint32_t staged, bool shared, bool half) {
  const Key key = make_key(seed, shared ? Stream::kShuffledPixels : Stream::kRandomPixels);
  if (half) {
    (shared ? block<BFloat16, true> : block<BFloat16, false>)(static_cast<BFloat16*>(out), image, key, index, n, staged);
  } else {
    (shared ? block<float, true> : block<float, false>)(static_cast<float*>(out), image, key, index, n, staged);
  }
}
