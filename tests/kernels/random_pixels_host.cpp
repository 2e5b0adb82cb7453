// What the lanes and warps of random_pixels.cuh do, one after another on the host, for the tests: no part of the
// library. `staged` bytes of the image lie in "shared memory".

#include <vector>

#include "cuda/random_pixels.cuh"

using namespace rethink_fast;

namespace {

template <int kChannels>
void block(uint8_t* out, const uint8_t* image, uint64_t seed, uint64_t index, uint32_t n, uint32_t staged) {
  const TopBijection bijection = to_top(make_bijection(make_key(seed, Stream::kRandomPixels), index, n));
  std::vector<Vector> shared((tile_bytes(kChannels) + staged) / kVector + 2);
  uint8_t* memory = reinterpret_cast<uint8_t*>(shared.data());
  const uint32_t stage = tile_bytes(kChannels) + misalignment(image);
  for (uint32_t lane = 0; lane < 3 * kWarp; ++lane) copy_aligned(memory + stage, image, staged, lane, 3 * kWarp);
  for (uint32_t start = 0; start < n; start += kPixelsPerWarp) {
    const uint32_t end = n - start < kPixelsPerWarp ? n : start + kPixelsPerWarp;
    uint8_t* to = out + start * kChannels;
    const uint32_t tile = misalignment(to);
    for (uint32_t lane = 0; lane < kWarp; ++lane) {
      fill_tile<kChannels>(bijection, memory, tile, stage, image, staged, start, end, lane);
    }
    for (uint32_t lane = 0; lane < kWarp; ++lane) {
      copy_aligned(to, memory + tile, (end - start) * kChannels, lane, kWarp);
    }
  }
}

}  // namespace

extern "C" void random_pixels_of_image(uint8_t* out, const uint8_t* image, uint64_t seed, uint64_t index, uint32_t n,
                                       uint32_t channels, uint32_t staged) {
  (channels == 1 ? block<1> : block<3>)(out, image, seed, index, n, staged);
}
