// The CPU kernels as a table of functions over raw pointers. kernels.cpp is compiled once for each instruction set,
// and dispatch.cpp picks the best that the machine has. No torch headers here or below, so that the sanitizers can
// run everything alone. Kernels allocate nothing: the caller gives scratch memory, one piece for each thread.

#pragma once

#include <cstddef>
#include <cstdint>

#include "../bijection.h"
#include "../philox.h"

namespace rethink_fast {

enum class Corruption { kNone, kShuffledPixels, kRandomPixels, kGaussian };

// Normal noise for images of `channels` channels. mean and std repeat the channels' statistics: element e of an
// image takes entry e % channels, and there are channels + kPatternPadding entries, so that a vector may start
// anywhere.
constexpr int kPatternPadding = 32;
struct Noise {
  Key key;
  int64_t channels;
  const float* mean;
  const float* std;
};

// Where n pixels of `pixel_bytes` bytes move to. places: the whole table where one permutation serves every image.
struct Moves {
  Key key;
  uint32_t n;
  int64_t pixel_bytes;
  const uint32_t* places;
};

// Everything about a fused preparation but the sample: see rethink_fast/data/preprocess.py.
struct Plan {
  const uint8_t* images;  // [M, height, width, channels]
  int64_t height, width, channels;
  int64_t window_top, window_left, window_height, window_width;
  int64_t out_height, out_width;
  Corruption corruption;
  Moves moves;
  Noise noise;
  Key augment;
  uint64_t epoch;
  bool crop, flip, rotation;  // false in evaluation
  bool whiten;                // else unit range
  bool bfloat16;              // else float32
  bool streamed;              // write past the caches: for an output larger than they are
};

struct Kernels {
  const char* name;
  // labels, index, out: [count].
  void (*corrupt_labels)(const int64_t* labels, const int64_t* index, int64_t* out, int64_t count, uint32_t classes,
                         uint64_t threshold, Key key);
  // out[i] = permute(bijection, first + i).
  void (*permute_range)(const Bijection& bijection, uint32_t first, int64_t count, uint32_t* out);
  // One image of n pixels; scratch: image_scratch bytes.
  void (*move_pixels)(const Moves& moves, const uint8_t* image, uint64_t index, uint8_t* out, uint8_t* scratch);
  // One image of `elements` deviates.
  void (*gaussian)(const Noise& noise, uint64_t index, int64_t elements, float* out);
  // One sample: images[row] to out, [out_height, out_width, channels]; scratch: prepare_scratch bytes.
  void (*prepare)(const Plan& plan, int64_t row, uint64_t index, void* out, uint8_t* scratch);
  // One image, [height, width, 3] to [out_height, out_width, 3]; scratch: resize_scratch bytes.
  void (*resize)(const uint8_t* image, int64_t height, int64_t width, int64_t out_height, int64_t out_width,
                 uint8_t* out, uint8_t* scratch);
};

// How many pairs of places along one axis an output place is made of, at most.
inline int64_t resize_pairs(int64_t from, int64_t to) {
  const int64_t taps = (2 * (from > to ? from : to) + to - 1) / to;
  return (taps + 1) / 2;
}

// Bytes of scratch memory, aligned to 64, that one thread needs.
size_t move_scratch(const Moves& moves);
size_t prepare_scratch(const Plan& plan);
size_t resize_scratch(int64_t height, int64_t width, int64_t out_height, int64_t out_width);

// The kernels of the best instruction set here, or of the one named (for tests), or null if it is not to be had.
const Kernels& best_kernels();
const Kernels* find_kernels(const char* name);

}  // namespace rethink_fast
